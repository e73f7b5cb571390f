"""HTTP to another server over a socket of one's own, cut at a time or when the request is cancelled.

It decides neither where to connect nor what to ask. Only what asks other servers imports it: it loads urllib3.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from urllib3.connection import HTTPConnection, HTTPSConnection

from lsbuild_runtime.http import Context


def over(connected: socket.socket, scheme: str, host: str, port: int) -> HTTPConnection:
    """urllib3's connection over a socket that is there already: no name is resolved again.

    With ``https`` the certificate has to be one for ``host``.
    """

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connected

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connected

    if scheme == "http":
        return Plain(host, port)
    return Secure(host, port, server_hostname=host, assert_hostname=host)


class Cutoff:
    """Shuts a socket down at ``end`` (monotonic) or when the request is cancelled, while the block runs.

    A timeout of a socket is for one read: a server that drips would hold a thread for as long as it likes. What was cut
    can look complete, so ask ``cut`` after the last read.
    """

    def __init__(self, connected: socket.socket, context: Context, end: float) -> None:
        self._socket = connected.dup()
        self._context = context
        self._end = min(end, context.deadline)
        self._done = threading.Event()
        self.cut = False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="cutoff")

    def __enter__(self) -> Cutoff:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            if time.monotonic() > self._end or self._context.cancel.is_set():
                self.cut = True
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
