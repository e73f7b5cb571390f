"""What systemd hears of a server: from the socket it names, in the order in which things happen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsbuild_runtime.manifest import FILE_NAME, to_json
from lsbuild_runtime.serve.notify import Notifier
from small_services import PARROT, small_manifest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd has one, at ``tmp_path/notify``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(20)
        yield heard


def test_states_come_in_one_datagram(supervisor: socket.socket, tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).send("READY=1", "STATUS=fine")
    assert supervisor.recv(100) == b"READY=1\nSTATUS=fine"


def test_an_at_sign_names_the_abstract_namespace() -> None:
    name = f"lsbuild-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        heard.settimeout(10)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).send("READY=1")
        assert heard.recv(100) == b"READY=1"


def test_nobody_to_report_to_is_no_error(tmp_path: Path) -> None:
    Notifier({}).send("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_told_twice_as_often_as_it_asks(environ: dict[str, str], seconds: float) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/x", **environ}).watchdog_s == seconds
    assert Notifier(environ).watchdog_s == 0.0


def test_a_server_is_ready_then_alive_then_stopping(supervisor: socket.socket, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / FILE_NAME).write_bytes(to_json(small_manifest([PARROT])))
    environ = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "100000",
    }
    environ.pop("WATCHDOG_PID", None)
    words = [sys.executable, "-m", "lsbuild_runtime.serve", "--root", str(root), "--port", "0"]
    process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        heard = [supervisor.recv(100) for _ in range(4)]
        assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        process.send_signal(signal.SIGTERM)
        while (last := supervisor.recv(100)) == b"WATCHDOG=1":
            pass
        assert last == b"STOPPING=1"
    finally:
        process.terminate()
        assert process.wait(30) == 0
