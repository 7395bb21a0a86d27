"""`python -m bridge.sandbox.ehr --port 0 --journal FILE`: run the pretend EHR; prints one ready line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from bridge.sandbox.ehr.control import Control
from bridge.sandbox.ehr.delivery import Retry
from bridge.sandbox.ehr.server import Ehr, Options
from bridge.sandbox.journal import Journal
from bridge.sandbox.server import Listeners, run_until_stopped


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bridge.sandbox.ehr", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--dialect", choices=["generic", "hapi", "athenahealth", "medplum"], default="generic")
    parser.add_argument("--fhir-version", choices=["R4", "R4B", "R5"], default="R4")
    parser.add_argument("--token-env", default="", help="environment variable with the bearer every request must carry")
    parser.add_argument("--polite", action="store_true", help="notifications in order (the demo's page)")
    parser.add_argument("--workers", type=int, default=2, help="deliveries at once per Subscription")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--retry-base", type=float, default=1.0, help="seconds before the second attempt")
    parser.add_argument("--retry-growth", type=float, default=1.1)
    parser.add_argument("--retry-span", type=float, default=60.5, help="seconds after which a notification is lost")
    parser.add_argument("--follow-stdin", action="store_true", help="end when stdin does")
    return parser.parse_args()


async def run(args: argparse.Namespace) -> None:
    journal = Journal(args.journal, "ehr")
    options = Options(
        dialect=args.dialect,
        fhir_version=args.fhir_version,
        token=os.environ[args.token_env] if args.token_env else "",
        seed=args.seed,
        polite=args.polite,
        workers=args.workers,
        retry=Retry(args.retry_base, args.retry_growth, args.retry_span),
    )
    ehr = Ehr(journal, options)
    control = Control(ehr)
    listeners = Listeners(ehr.serve, control.serve, args.host, args.port)
    control.listeners = listeners
    await ehr.delivery.start()
    await listeners.start()
    ehr.set_base(f"{listeners.url}/fhir")
    journal.record("note", event="started", base=ehr.base)
    try:
        await run_until_stopped(listeners, {"base": ehr.base}, follow_stdin=args.follow_stdin)
    finally:
        await ehr.delivery.stop()
        await listeners.stop()
        journal.close()


if __name__ == "__main__":
    asyncio.run(run(arguments()))
