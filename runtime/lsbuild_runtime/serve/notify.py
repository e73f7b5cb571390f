"""Tells systemd how the server is (sd_notify(3)): ready, alive, stopping; without NOTIFY_SOCKET it does nothing.

A datagram that cannot be sent is dropped: a supervisor that is gone may not end what it supervised.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"


class Notifier:
    """Where this process reports to. ``watchdog_s`` is how often it has to say ALIVE, 0.0 when nobody waits for that."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@name" is a socket of the abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = _interval(environ) if address else 0.0

    def send(self, *states: str) -> None:
        """Send the states in one datagram."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self._address)
            sender.send("\n".join(states).encode())


def _interval(environ: Mapping[str, str]) -> float:
    """Half of what systemd waits, as it recommends; only the process that it means has to answer."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    return int(microseconds) / 2e6 if microseconds.isdecimal() and meant else 0.0
