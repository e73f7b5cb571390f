"""What a process used is read from the kernel: of whoever listens, or of the children behind a front door of ours."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lsbuild.proving import cold_start

WORKS = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
until = time.process_time() + 0.2
while time.process_time() < until:
    pass
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def busy() -> Iterator[int]:
    """The port of a child that listens and has used 200 CPU-ms."""
    with subprocess.Popen([sys.executable, "-c", WORKS, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())
        child.communicate()


def test_the_listener_s_time_and_memory_are_seen(busy: int) -> None:
    found = cold_start.used(f"http://127.0.0.1:{busy}", 0)
    assert found is not None
    assert found.cpu_ms >= 190  # the kernel counts in steps of 10 ms
    assert found.memory > 1_000_000


def test_behind_our_own_front_door_it_is_the_children_started_since(busy: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        found = cold_start.used(url, 0)
        assert found is not None
        assert found.cpu_ms >= 190
        assert cold_start.used(url, cold_start.now() + 1) is None


def test_nobody_is_nothing() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert cold_start.used(f"http://127.0.0.1:{free.getsockname()[1]}", 0) is None
