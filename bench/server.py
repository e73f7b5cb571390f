"""Starts a server and learns its address from what it prints; stops it by SIGTERM; it sends no request."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.worker import ROOT, BenchError, clean_environment, cpu_seconds, resident_mb


class Server:
    """A running server. ``started`` is the clock (time.perf_counter) just before its process was made."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        says: str = "",
        limit_s: float = 90.0,
    ) -> None:
        """``says``: words that stand before the address, for a server that prints other addresses as well."""
        self._address = re.compile(re.escape(says) + r"https?://([\w.]+):(\d+)")
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._lines: list[str] = []
        self._heard = threading.Event()
        self.host, self.port = "", 0
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT, env=clean_environment({"TMPDIR": self._folder.name, **(env or {})}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._heard.wait(limit_s) or not self.port:
            self.close()
            said = "".join(self._lines[-12:])
            raise BenchError(f"{Path(str(command[0])).name} printed no address in {limit_s:.0f} s: {said}")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def cpu_s(self) -> float:
        """CPU seconds it has used since its start, interpreter included."""
        return cpu_seconds(self._process.pid)

    def rss_mb(self) -> float:
        """Its resident memory now, in MB."""
        return resident_mb(self._process.pid)

    def close(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(2)
        self._folder.cleanup()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.append(line)
                found = self._address.search(line)
                if found and not self.port:
                    self.host, self.port = found[1].replace("0.0.0.0", "127.0.0.1"), int(found[2])  # noqa: S104
                    self._heard.set()
        self._heard.set()


def artifact(folder: Path) -> list[str]:
    """The command that starts a host artifact on a free port."""
    return [str(folder / "run"), "--host", "127.0.0.1", "--port", "0"]
