"""Starts programs and reads what they cost: CPU and wall time, memory, answers in JSON lines; it knows no figure."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A figure cannot be measured; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program and the children it waited for used until it ended, and what it printed."""

    wall_s: float
    cpu_s: float
    output: str


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without what would favour one side: thread counts, Python settings."""
    drop = ("OMP_", "MKL_", "OPENBLAS_", "GGML_", "PYTHON")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    return {**kept, **(extra or {})}


def run(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, limit_s: float = 300.0) -> Cost:
    """Run to the end; BenchError with the last lines of output when it fails or takes longer than ``limit_s``."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT, env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        timer = threading.Timer(limit_s, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            output = process.stdout.read().decode(errors="replace")
            process.stdout.close()
            _, status, used = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise BenchError(
                f"{Path(command[0]).name} {' '.join(map(str, command[1:4]))}: {_tail(errors) or output[-600:]}"
            )
    wall = time.perf_counter() - start
    return Cost(wall, used.ru_utime + used.ru_stime, output)


class Worker:
    """A program that is loaded once and then asked many times, one JSON line at a time (``bench.lines.serve``)."""

    def __init__(self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
        self._name = " ".join(str(part) for part in command[1:4])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT, env=clean_environment(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.ready = self._read(limit_s=180.0)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, limit_s: float = 120.0, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer; BenchError when the worker fails or takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._read(limit_s)

    def close(self) -> None:
        """End it by closing its input; kill it when it stays."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(limit_s, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self._process.wait()
            raise BenchError(f"{self._name} ended (code {self._process.returncode}): {_tail(self._errors)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def cpu_seconds(pid: int) -> float:
    """CPU time of a running process and all its threads, to the nanosecond (its CPU clock, as clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_mb(pid: int) -> float:
    """Resident memory of a running process in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _tail(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read().decode(errors="replace").strip()[-1200:])
