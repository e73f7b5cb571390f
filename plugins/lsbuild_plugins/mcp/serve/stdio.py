"""An MCP server as a program: messages are lines on its standard input and output; what it prints to stderr is dropped.

The program gets PATH, HOME, the locale and what the spec gives it, nothing else of the server's environment.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lsbuild_plugins.mcp.serve.messages import (
    LARGEST,
    MOST_ASIDE,
    Expired,
    Failure,
    Gone,
    Message,
    notification,
    outcome,
    read,
    reply,
)
from lsbuild_runtime.http import Context

_TICK = 0.05
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class Stdio:
    """Implements messages.Transport. Gone when the program cannot be started."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the spec's own words, without a shell
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, **env},
                cwd=folder,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Gone(f"the program {command[0]!r} cannot be started: {reason}") from error
        self._waiting: dict[int, _Waiter] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._fault = ""
        os.set_blocking(self._stdin(), False)
        self._reader = threading.Thread(target=self._read, daemon=True, name="mcp server")
        self._reader.start()
        atexit.register(self.close)

    def request(self, number: int, body: bytes, context: Context, seconds: float) -> Any:
        """See messages.Transport. What is given up is cancelled over there too."""
        waiter = _Waiter()
        with self._lock:
            self._waiting[number] = waiter
        try:
            end = time.monotonic() + seconds
            self._write(body, context, end)
            while not waiter.done.wait(_TICK):
                context.check()
                if self._fault:
                    raise Gone(self._fault)
                if time.monotonic() > end:
                    raise Failure(f"there was no answer within {seconds:g} s")
        except BaseException:
            if not self._fault:
                self.notify(notification("notifications/cancelled", {"requestId": number, "reason": "given up"}))
            raise
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if waiter.message is None:
            raise Gone(self._fault)
        return outcome(waiter.message)

    def notify(self, body: bytes) -> None:
        """See messages.Transport."""
        with suppress(Gone):
            self._write(body, Context(deadline=time.monotonic() + 1), time.monotonic() + 1)

    def spoken(self, revision: str) -> None:
        """See messages.Transport."""

    def alive(self) -> bool:
        """See messages.Transport."""
        return not self._fault and self._process.poll() is None

    def close(self) -> None:
        """As the protocol wants it: close its input, then ask it to end, then end it with all that it started."""
        atexit.unregister(self.close)
        self._fault = self._fault or "the server was stopped"
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
                break
        with suppress(ProcessLookupError, PermissionError):  # what it left behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _stdin(self) -> int:
        if self._process.stdin is None or self._process.stdin.closed:
            raise Expired(self._fault or "the server was stopped")
        return self._process.stdin.fileno()

    def _write(self, body: bytes, context: Context, end: float) -> None:
        """One line, whole; a program that does not read is given up. Expired when it ended before it had the line."""
        while not self._writing.acquire(timeout=_TICK):
            context.check()
            if time.monotonic() > end:
                raise Gone("the server does not read what it is told")
        try:
            descriptor = self._stdin()
            room = select.poll()
            room.register(descriptor, select.POLLOUT)
            data = memoryview(body + b"\n")
            while data:
                if self._fault:
                    raise Expired(self._fault)
                if time.monotonic() > end:
                    self._give_up("the server does not read what it is told")
                    raise Gone(self._fault)
                if room.poll(_TICK * 1000):
                    data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            self._give_up("the server does not read what it is told")
            raise Gone(self._fault) from None
        except OSError as error:
            raise Expired(self._fault or "the server has ended") from error
        finally:
            self._writing.release()

    def _read(self) -> None:
        """Give each answer to who waits for it, until the program ends or goes too far."""
        if self._process.stdout is None:
            return
        descriptor = self._process.stdout.fileno()
        buffer = bytearray()
        aside = 0
        try:
            while piece := os.read(descriptor, 1 << 16):
                buffer += piece
                if len(buffer) > LARGEST + len(piece):
                    self._give_up(f"the server sent a message of more than {LARGEST} bytes")
                    return
                if b"\n" not in piece:
                    continue
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    aside = 0 if self._take(bytes(line)) else aside + 1
                    if aside > MOST_ASIDE:
                        self._give_up(f"the server sent {MOST_ASIDE} messages that nobody asked for")
                        return
        except OSError:
            return
        finally:
            self._end()

    def _take(self, line: bytes) -> bool:
        """Whether an answer that somebody waits for was in the line."""
        found = False
        for message in read(line):
            if message.method is not None:
                answer = reply(message)
                if answer is not None:
                    self.notify(answer)
                continue
            with self._lock:
                waiter = self._waiting.get(message.id) if isinstance(message.id, int) else None
            if waiter is not None:
                waiter.message = message
                waiter.done.set()
                found = True
        return found

    def _give_up(self, fault: str) -> None:
        self._fault = self._fault or fault
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        if not self._fault:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            code = self._process.returncode
            how = f"with exit code {code}" if code is not None and code >= 0 else f"of signal {-(code or 0)}"
            self._fault = f"the server ended {how}" if code is not None else "the server closed its output"
        with self._lock:
            for waiter in self._waiting.values():
                waiter.done.set()


class _Waiter:
    """Somebody who waits for an answer; None when there will be none."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.message: Message | None = None
