"""Serves an App on loopback from a thread, with the very server the artifact uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lsbuild_runtime.app import App
from lsbuild_runtime.serve.main import Server, address_of, listen


@contextmanager
def serving(app: App) -> Iterator[str]:
    """The base URL of ``app`` while the block runs; the server has stopped when it ends."""
    listener = listen("127.0.0.1", 0)
    server = Server(app, 0.0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def eventually(true: object, seconds: float = 10.0) -> bool:
    """Whether ``true()`` becomes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if callable(true) and true():
            return True
        time.sleep(0.01)
    return False
