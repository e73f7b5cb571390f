"""One process of a tool: started on the first call, kept warm, asked one call at a time, killed when it goes too far."""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_plugins.python_tool.serve.workplace import Workplace
from lsbuild_runtime.http import Context

START_SECONDS = 60.0
"""How long a tool may take to be loaded; the libraries of some take a while on a small machine."""
LOGGED = 4096
"""Bytes of what a tool prints in one call that are kept for the log; the rest is read and counted."""
_TICK_MS = 50
_FRAME_EXTRA = 4096
_PIECE, _PIPEFUL = 1 << 16, 1 << 20
_CHILD = Path(__file__).with_name("child.py")


class Settings(Struct, frozen=True):
    """What the process gets; see the plugin's Config. ``tool`` is the file; seconds and bytes."""

    tool: str
    timeout: float
    memory: int
    output: int
    file: int
    network: bool = False
    env: Mapping[str, str] = {}
    read: tuple[str, ...] = ()


class Failed(Exception):
    """The call gave nothing; the text is for the model."""


class _Answer(Struct):
    id: int = 0
    value: Any = None
    error: str | None = None
    ready: bool = False
    layers: tuple[str, ...] = ()


_ANSWER = msgspec.json.Decoder(_Answer)


class Process:
    """Safe for use from several threads; calls wait for each other, and for no longer than their own time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._calls = 0
        atexit.register(self.close)  # its folder lies outside of what the process itself may change

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> Any:
        """The value of the function. Failed says what it did instead; Cancelled and ApiError 408 as ``Context.check``."""
        self._wait(context)
        try:
            with context.watch.span("tool process") as span:
                running = self._ready(context)
                self._calls += 1
                request = {"id": self._calls, "name": name, "arguments": arguments, "seconds": self._settings.timeout}
                try:
                    running.send(msgspec.json.encode(request), self._settings.timeout, context)
                    answer = self._answer(running, self._settings.timeout, context)
                    if answer.id != self._calls:
                        raise Failed("it wrote into the server's own pipe and was stopped")
                except BaseException:
                    self._stop()
                    raise
                finally:
                    span.set(**running.printed(), **{"lsbuild.tool.isolation": ",".join(running.layers)})
        finally:
            self._lock.release()
        if answer.error is not None:
            raise Failed(answer.error)
        return answer.value

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _wait(self, context: Context) -> None:
        while not self._lock.acquire(timeout=_TICK_MS / 1000):
            context.check()

    def _ready(self, context: Context) -> _Running:
        if self._running is not None and not self._running.alive():
            self._stop()
        if self._running is None:
            self._running = running = _Running(self._settings)
            try:
                answer = self._answer(running, START_SECONDS, context)
            except BaseException:
                self._stop()
                raise
            if not answer.ready:
                self._stop()
                raise Failed(answer.error or "it cannot be loaded")
            running.layers = answer.layers
        return self._running

    def _answer(self, running: _Running, seconds: float, context: Context) -> _Answer:
        """The next frame. Time, cancel flag and deadline are looked at while it is waited for."""
        end = time.monotonic() + seconds
        while not running.frame(self._settings.output * 6 + _FRAME_EXTRA):
            context.check()
            if time.monotonic() > end:
                raise Failed(f"it ran for {seconds:g} s and was stopped")
        return running.take()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running = None


class _Running:
    """A process with its two pipes, and the thread that reads what it prints."""

    def __init__(self, settings: Settings) -> None:
        self.layers: tuple[str, ...] = ()
        self._buffer = bytearray()
        self._work = Workplace()
        request_end, self._requests = os.pipe()
        self._answers, answer_end = os.pipe()
        told = {
            "tool": settings.tool, "work": self._work.path, "memory": settings.memory, "output": settings.output,
            "file": settings.file, "network": settings.network, "read": settings.read,
            "requests": request_end, "answers": answer_end,
        }  # fmt: skip
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own file
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_CHILD), msgspec.json.encode(told).decode()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(request_end, answer_end),
                env=_environment(settings.env, self._work.path),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            for end in (self._requests, self._answers):
                os.close(end)
            self._work.remove()
            raise Failed(f"its process cannot be started: {error.strerror}") from error
        finally:
            os.close(request_end)
            os.close(answer_end)
        os.set_blocking(self._requests, False)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._printed = _Printed(self._process)

    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, body: bytes, seconds: float, context: Context) -> None:
        """Write a frame; a process that does not read it is given up after ``seconds``."""
        data = memoryview(len(body).to_bytes(4, "big") + body)
        end = time.monotonic() + seconds
        room = select.poll()
        room.register(self._requests, select.POLLOUT)
        while data:
            context.check()
            if time.monotonic() > end:
                raise Failed(f"it did not listen for {seconds:g} s and was stopped")
            if not room.poll(_TICK_MS):
                continue
            try:
                data = data[os.write(self._requests, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Failed(self._end()) from error

    def frame(self, most: int) -> bool:
        """Whether a whole frame is here, after waiting for a moment. Failed when it is too large or the process ended."""
        if self._complete():
            return True
        if not self._poll.poll(_TICK_MS):
            return False
        piece = os.read(self._answers, 1 << 16)
        if not piece:
            raise Failed(self._end())
        self._buffer += piece
        if len(self._buffer) >= 4 and int.from_bytes(self._buffer[:4], "big") > most:
            raise Failed("it gave more than it may, or wrote into the server's own pipe, and was stopped")
        return self._complete()

    def take(self) -> _Answer:
        size = int.from_bytes(self._buffer[:4], "big")
        body, self._buffer = bytes(self._buffer[4 : 4 + size]), self._buffer[4 + size :]
        try:
            return _ANSWER.decode(body)
        except msgspec.MsgspecError as error:
            raise Failed("it wrote into the server's own pipe and was stopped") from error

    def printed(self) -> dict[str, Any]:
        return self._printed.take()

    def kill(self) -> None:
        """End it and all that it started, and remove its folder."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        for end in (self._requests, self._answers):
            os.close(end)
        self._printed.join()
        self._work.remove()

    def _complete(self) -> bool:
        return len(self._buffer) >= 4 and len(self._buffer) >= 4 + int.from_bytes(self._buffer[:4], "big")

    def _end(self) -> str:
        """How the process ended, once it has closed its pipe."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed the server's pipe and was stopped"
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"its process died of {name}"


class _Printed:
    """Reads all that a process prints, so that it never waits for that, and keeps the beginning."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - Popen was asked for a pipe
        self._stream = process.stdout
        os.set_blocking(self._stream.fileno(), False)
        self._lock = threading.Lock()
        self._kept = b""
        self._size = 0
        self._thread = threading.Thread(target=self._read, daemon=True, name="tool output")
        self._thread.start()

    def take(self) -> dict[str, Any]:
        """What came since the last time, as attributes of a span. What was printed before an answer is in the pipe by then."""
        with self._lock:
            self._drain()
            kept, size, self._kept, self._size = self._kept, self._size, b"", 0
        if not size:
            return {}
        return {"lsbuild.tool.output": kept.decode("utf-8", "replace"), "lsbuild.tool.output_bytes": size}

    def join(self) -> None:
        self._thread.join(5)
        with self._lock:
            self._stream.close()

    def _read(self) -> None:
        there = select.poll()
        there.register(self._stream, select.POLLIN)
        open_ = True
        while open_:
            there.poll()
            with self._lock:  # held while reading, so that nothing is between the pipe and the count when `take` looks
                open_ = self._drain()

    def _drain(self) -> bool:
        """Read what is there, a pipeful at most: a tool that goes on printing does not hold up its answer. False at its end."""
        for _ in range(0 if self._stream.closed else _PIPEFUL // _PIECE):
            try:
                piece = os.read(self._stream.fileno(), _PIECE)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self._size += len(piece)
            self._kept += piece[: max(0, LOGGED - len(self._kept))]
        return not self._stream.closed


def _environment(given: Mapping[str, str], work: str) -> dict[str, str]:
    """What a program needs; numeric libraries are told to keep to one thread, which costs the least memory."""
    place = work or "/"
    return {
        "PATH": "/usr/bin:/bin", "HOME": place, "TMPDIR": place, "LANG": "C.UTF-8", "TZ": os.environ.get("TZ", ""),
        "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **given,
    }  # fmt: skip
