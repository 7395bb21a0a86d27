"""`bridge retention`: empty what is older than the site keeps. The running engine does it every night."""

from __future__ import annotations

import json

from bridge.cli import DEFAULT_CONFIG, ConfigOption, JsonOption
from bridge.cli.opening import changing


def sweep(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Empty encrypted columns older than `retention.bodies`; the rows, states and times stay."""
    counts: dict[str, int] = changing(config, "retention")
    if as_json:
        print(json.dumps(counts))
    else:
        print(", ".join(f"{count} {table}" for table, count in counts.items() if count) or "nothing is that old")
