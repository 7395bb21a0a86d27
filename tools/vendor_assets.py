"""Browser assets come from npm, pinned by version and hash, and are committed: pages load nothing from elsewhere.

    uv run python tools/vendor_assets.py           fetch with `npm pack`, check the hash, copy, write VENDOR.json
    uv run python tools/vendor_assets.py --check   compare what is committed with VENDOR.json, without a network

htmx stays at 2.0.x: npm's newest is 4, whose silent breaks include the headers pages rely on. Revisit in 2027.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parent.parent / "bridge/console/static/vendor"
PACKAGES = (
    {
        "name": "htmx.org",
        "version": "2.0.11",
        "license": "0BSD",
        "integrity": "sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
        "files": {"package/dist/htmx.min.js": "htmx.min.js", "package/LICENSE": "htmx.LICENSE"},
    },
)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return _check()
    VENDOR.mkdir(parents=True, exist_ok=True)
    listed = [_fetch(package) for package in PACKAGES]
    (VENDOR / "VENDOR.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return 0


def _fetch(package: dict[str, Any]) -> dict[str, Any]:
    """One package's files into the vendor folder; returns its entry in VENDOR.json."""
    spec = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", spec, "--pack-destination", folder, "--silent"]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]  # noqa: S603
        archive = Path(folder, name).read_bytes()
        digest = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
        if digest != package["integrity"]:
            raise SystemExit(f"{spec}: expected {package['integrity']}, got {digest}")
        hashes = {}
        with tarfile.open(Path(folder, name)) as tar:
            for inside, outside in package["files"].items():
                member = tar.extractfile(inside)
                assert member is not None
                content = member.read()
                (VENDOR / outside).write_bytes(content)
                hashes[outside] = hashlib.sha256(content).hexdigest()
    return {key: value for key, value in package.items() if key != "files"} | {"sha256": hashes}


def _check() -> int:
    """1 when a committed file is not what VENDOR.json says, or VENDOR.json not what is pinned here."""
    wrong = []
    listed = json.loads((VENDOR / "VENDOR.json").read_text(encoding="utf-8"))
    if [(e["name"], e["version"], e["integrity"]) for e in listed] != [
        (p["name"], p["version"], p["integrity"]) for p in PACKAGES
    ]:
        wrong.append("VENDOR.json does not list what is pinned")
    for entry in listed:
        for name, digest in entry["sha256"].items():
            if hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() != digest:
                wrong.append(f"{name} is not the file that was vendored")
    for problem in wrong:
        print(problem, file=sys.stderr)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
