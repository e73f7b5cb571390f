"""Runs images as confined containers with podman and runc, in a storage of its own that goes when it is done.

The images and containers that the user has are never touched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lsbuild import toolbox
from lsbuild.errors import VerifyError

_SECONDS = 300
# No limit is raised: a machine without CAP_SYS_RESOURCE refuses that, and the server needs few files.
_CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=host",
)
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


@dataclass(frozen=True, slots=True)
class Podman:
    """A storage and how it is used. ``env`` is what its commands need."""

    folder: Path
    env: Mapping[str, str]
    words: tuple[str, ...]

    def pull(self, source: str, arch: str, *options: str) -> str:
        """Have an image (``oci:DIR``, ``docker://HOST/NAME@DIGEST``) here; returns its id. Raises VerifyError."""
        return self.quiet("pull", "--quiet", f"--arch={arch}", *options, source).split()[-1]

    def run(self, image: str, arguments: Sequence[str] = (), options: Sequence[str] = ()) -> tuple[str, ...]:
        """The command that runs an image in the foreground, confined; ``options`` are podman's own."""
        return (*self.words, "run", "--rm", "--pull=never", *_CONFINED, *_LIMITS, *options, image, *arguments)

    def ask_python(self, image: str, python: str, code: str) -> str:
        """What ``code`` prints inside a container of the image. Raises VerifyError with what Python complained about."""
        return _quiet(self.run(image, ("-I", "-S", "-c", code), ("--entrypoint", python)), self.env)

    def quiet(self, *words: str) -> str:
        """The output of one of podman's commands. Raises VerifyError with what it complained about."""
        return _quiet((*self.words, *words), self.env)


@contextmanager
def podman() -> Iterator[Podman]:
    """A fresh storage; containers and images in it are removed at the end. ``toolbox`` says whether the programs are here."""
    with TemporaryDirectory(prefix="lsbuild-podman-") as folder:
        words = (toolbox.PODMAN.path(), "--root", f"{folder}/storage", "--runroot", f"{folder}/run")
        env = {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": folder}
        found = Podman(Path(folder), env, (*words, "--runtime", toolbox.RUNC.path(), "--cgroup-manager=cgroupfs"))
        try:
            yield found
        finally:
            # Unmounts what a killed container left; the folder could not be removed otherwise.
            for each in (("rm", "--all", "--force"), ("rmi", "--all", "--force")):
                subprocess.run([*found.words, *each], capture_output=True, check=False)  # noqa: S603


def _quiet(command: Sequence[str], env: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=_SECONDS, env=dict(env)
        )
    except subprocess.TimeoutExpired as error:
        raise VerifyError(f"podman did not end within {_SECONDS} s") from error
    if done.returncode:
        raise VerifyError(f"podman failed: {done.stderr.strip()[-400:]}")
    return done.stdout
