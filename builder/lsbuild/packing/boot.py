"""Starts a packed artifact as a process, waits until it is healthy, and stops it; what to ask it is the caller's."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from lsbuild.api import Check
from lsbuild.errors import VerifyError

BOOTSTRAP = (
    "import sys; root = sys.argv[2]; sys.path[:0] = [root + '/app', root + '/site']; "
    "from lsbuild_runtime.serve.main import main; sys.exit(main(sys.argv[1:]))"
)
"""The whole start of an artifact, after ``python -I -S -B -c``; its arguments begin with ``--root DIR``."""
DOCTOR = (
    "import sys; root = sys.argv[2]; sys.path[:0] = [root + '/app', root + '/site']; "
    "from lsbuild_runtime.doctor import main; sys.exit(main(sys.argv[1:]))"
)
"""The same for ``run doctor``, which needs nothing but the standard library."""
HEALTH = "/v1/health"
REFUSES = "it refuses to serve"
"""In the VerifyError of an artifact that says itself that it will not become healthy."""
_ADDRESS = re.compile(r"https?://[^\s\"']+:\d+")
_STOP_SECONDS = 20.0


class Running:
    """A started artifact. ``base_url`` is known once ``wait`` returned; ``output`` is what it printed so far.

    Give ``base_url`` where the address is not printed by the process itself (a machine that is emulated).
    """

    def __init__(self, process: subprocess.Popen[str], base_url: str = "") -> None:
        self._process = process
        self.pid = process.pid
        self._lines: list[str] = []
        self._address = threading.Event()
        self.base_url = base_url
        if base_url:
            self._address.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """The last lines of stdout and stderr, together."""
        return "".join(self._lines[-20:])

    def wait(self, seconds: float) -> float:
        """Wait until the printed address answers health with 200; returns the seconds it took, raises VerifyError."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self._address.wait(0.05):
                status, body = _answer(self.base_url, HEALTH)
                if status == 200:
                    return time.monotonic() - start
                if refusal := _refusal(body):
                    raise VerifyError(f"{REFUSES}: {refusal}")
            if self._process.poll() is not None:
                self._reader.join(2)
                raise VerifyError(
                    f"it ended with code {self._process.returncode}: {self.output.strip() or 'no output'}"
                )
            time.sleep(0.05)
        raise VerifyError(f"not healthy after {seconds:.0f} s; it printed: {self.output.strip() or 'nothing'}")

    def terminate(self) -> None:
        """Send SIGTERM and wait for nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code; a process that stays is killed (-9)."""
        self.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(2)
        return code

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            self._lines.append(line)
            match = None if self.base_url else _ADDRESS.search(line)
            if match is not None:
                self.base_url = match[0].replace("//0.0.0.0:", "//127.0.0.1:")
                self._address.set()
        self._process.stdout.close()


@contextmanager
def running(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> Iterator[Running]:
    """Start ``command`` with exactly ``env``; it is stopped when the block ends."""
    process = subprocess.Popen(  # noqa: S603 - the command is the artifact's own
        [str(part) for part in command],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    artifact = Running(process)
    try:
        yield artifact
    finally:
        artifact.stop()


def boot_and_ask(artifact: Running, seconds: float, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    """Wait for health, ask, stop: the checks ``boot``, those of ``ask``, and ``stop`` (SIGTERM answered with code 0)."""
    try:
        took = artifact.wait(seconds)
    except VerifyError as error:
        yield Check("boot", False, error.what)
        return
    yield Check("boot", True, f"healthy after {took:.2f} s")
    yield from ask(artifact.base_url)
    code = artifact.stop()
    yield Check("stop", code == 0, f"SIGTERM, exit code {code}" + ("" if code == 0 else f"; {artifact.output.strip()}"))


def _refusal(body: bytes) -> str:
    """Why a server says that it will not become healthy; "" when it does not say so."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return ""
    return str(error["message"]) if error.get("code") == "not_ready" else ""


def _answer(base_url: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET, or 0 when nothing answers."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
