"""Plays systemd for one unit: runs its ExecStartPre and ExecStart, again and again, as they stand in its text."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path

_LOOP = """\
cd "$1"
until [ -f stop ]; do
    {before} >> log 2>&1
    {start} >> log 2>&1 &
    echo $! > pid.new; mv pid.new pid
    wait $!
    sleep 0.1  # RestartSec
done
"""
_RESTART = 'pid=$(cat "$0"); kill "$pid" || true'


class UnitPlayer:
    """``unit`` is the unit's text; of ``environ`` its variables are taken, as systemd takes those of an EnvironmentFile."""

    def __init__(self, folder: Path, unit: str, environ: Mapping[str, str], port: int) -> None:
        self.folder = folder
        self.port = port
        self._environ = {**os.environ, **environ}
        lines = unit.replace("\\\n", " ").splitlines()
        found = dict(line.split("=", 1) for line in lines if line.startswith("ExecStart"))
        before, start = (found[name].lstrip("+-") for name in ("ExecStartPre", "ExecStart"))
        # A shell reads quotes and ${VARIABLES} of these lines as systemd does.
        self._script = _LOOP.format(before=before, start=start)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def restart(self) -> list[str]:
        """The command that has it started again."""
        return ["sh", "-c", _RESTART, str(self.folder / "pid")]

    @property
    def log(self) -> str:
        """What the service said."""
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Like ``systemctl start``."""
        self._process = subprocess.Popen(["sh", "-c", self._script, "sh", self.folder], env=self._environ)

    def stop(self) -> None:
        """Like ``systemctl stop``."""
        (self.folder / "stop").touch()
        subprocess.run(self.restart, check=False, capture_output=True)
        if self._process is not None:
            self._process.wait(120)

    def get(self, path: str) -> str:
        """What it answers. OSError while it does not."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def wait(self) -> None:
        """Until it serves."""
        for _ in range(1800):
            try:
                self.get("/v1/health")
            except OSError:
                threading.Event().wait(0.1)
            else:
                return
        raise AssertionError(self.log[-2000:])


def here(text: str) -> str:
    """The system's Python of a device is the one that runs the tests."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name in (version, "3"):
        text = text.replace(f"/usr/bin/python{name} ", f"{shlex.quote(sys.executable)} ")
    return text
