"""A real sshd on loopback, with keys of its own, whose sessions find a test's programs first on their PATH."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SshServer:
    """``host`` and ``options`` are what a client needs; programs in ``programs`` go before those of the machine."""

    host: str
    options: tuple[str, ...]
    programs: Path

    def program(self, name: str, text: str) -> None:
        """Put a shell script of that name on the PATH of sessions."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """The server while the block runs; skips where there is no sshd."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if sshd is None or not shutil.which("ssh-keygen"):
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)
    folder.chmod(0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    programs = folder / "programs"
    programs.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n"
        f"SetEnv PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin\n"
    )
    process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        public = (folder / "host.pub").read_text().split()[:2]
        (folder / "known").write_text(f"[127.0.0.1]:{port} {' '.join(public)}\n")
        options = (
            f"Port={port}",
            f"IdentityFile={folder}/user",
            f"UserKnownHostsFile={folder}/known",
            "IdentitiesOnly=yes",
        )
        yield SshServer(f"{getpass.getuser()}@127.0.0.1", options, programs)
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.skip("this sshd does not start here")
