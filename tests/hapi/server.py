"""Build, start and stop a real HAPI FHIR server (R4, in memory, 127.0.0.1), for tests and by hand.

By hand: `python tests/hapi/server.py [PORT]`; it ends with Ctrl-C. Needs java (17+) and mvn; the first build fetches about
320 MB from Maven Central.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
TARGET = HERE / "target"
CLASSPATH = TARGET / "classpath.txt"
SOURCES = (HERE / "pom.xml", *sorted((HERE / "src").rglob("*.*")))
# quick to start rather than quick for long: first answer after 12-28 s on 2 cores, 0.6 GB
JVM = ("-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
START = 180.0  # s: two cores that are busy with something else


def tools() -> str | None:
    """What is missing on this machine; None when nothing is."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"needs {' and '.join(missing)}" if missing else None


def build() -> None:
    """Fetch and compile, unless that is done already."""
    newest = max(source.stat().st_mtime for source in SOURCES)
    if CLASSPATH.exists() and CLASSPATH.stat().st_mtime > newest:
        return
    subprocess.run(
        ["mvn", "-q", "-B", "compile", "dependency:build-classpath", f"-Dmdep.outputFile={CLASSPATH}"],
        cwd=HERE,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    CLASSPATH.touch()


class Hapi:
    """One running server; `with Hapi() as hapi: hapi.base`."""

    def __init__(self, port: int = 0) -> None:
        """Take `port`, or any free one."""
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self.base = ""  # "http://127.0.0.1:40523/fhir"

    def __enter__(self) -> Hapi:
        build()
        TARGET.mkdir(exist_ok=True)
        classes = os.pathsep.join((str(TARGET / "classes"), CLASSPATH.read_text()))
        with (TARGET / "hapi.log").open("w") as log:
            self._process = subprocess.Popen(
                ["java", *JVM, f"-Dhapi.port={self._port}", "-cp", classes, "HapiServer"],
                stdin=subprocess.PIPE,  # it ends when this does: also when we are killed
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.base = f"http://127.0.0.1:{self._listening()}/fhir"
            with urllib.request.urlopen(f"{self.base}/metadata", timeout=60):
                pass
        except BaseException:
            self.close()
            raise
        return self

    def _listening(self) -> int:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        stdout = process.stdout

        def copy() -> None:
            for line in stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=copy, daemon=True).start()
        end = time.monotonic() + START
        while (left := end - time.monotonic()) > 0:
            line = lines.get(timeout=left)
            if line.startswith("LISTENING "):
                return int(line.split()[1])
            if not line:
                break
        raise RuntimeError(f"HAPI did not start; see {TARGET / 'hapi.log'}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main() -> None:
    """Run until Ctrl-C."""
    with Hapi(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as hapi:
        print(hapi.base, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
