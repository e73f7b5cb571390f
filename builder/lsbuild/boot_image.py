"""Boots an unpacked image the truest way this machine has: podman with runc, a chroot, or a chroot under QEMU.

It never touches the containers and images that the user has: podman is given a storage of its own, below a temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from platform import machine
from tempfile import TemporaryDirectory

from lsbuild.api import Check
from lsbuild.boot import boot_and_ask, running
from lsbuild.errors import VerifyError
from lsbuild.oci_read import ReadImage

_KERNEL = {"amd64": "x86_64", "arm64": "aarch64"}
_ELF = {"x86_64": 62, "aarch64": 183}
"""e_machine of the ELF specification."""
_LISTEN = ("--host", "127.0.0.1", "--port", "0")
_BOOT_SECONDS, _EMULATED_SECONDS = 120.0, 300.0
_EMULATED_CORE = "cortex-a76"
"""Named, because QEMU's default core is four times slower; it is that of a Raspberry Pi 5."""
_OLDEST_QEMU = 10
# No limit is raised: a machine without CAP_SYS_RESOURCE refuses that, and the server needs few files.
_CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=host",
)
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def boot(image: ReadImage, root: Path, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    """Start the image whose layers lie unpacked in ``root``, ask it, stop it.

    Where nothing here can run it, one check named ``boot (skipped)`` says what is missing.
    """
    native = _KERNEL[image.arch] == machine()
    if os.geteuid() != 0:
        yield Check("boot (skipped)", True, "NOT booted: that needs root (for podman with runc, or chroot)")
    elif native and shutil.which("podman") and shutil.which("runc"):
        yield from _podman(image, ask)
    elif native:
        yield from _chroot(image, root, (), _BOOT_SECONDS, ask)
    else:
        yield from _emulated(image, root, ask)


def require_machine(root: Path, arch: str) -> int:
    """Check that every native file below ``root`` is 64-bit code for ``arch``; returns their number. Raises VerifyError."""
    count = 0
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as stream:
            head = stream.read(20)
        if head[:4] != b"\x7fELF":
            continue
        count += 1
        (found,) = struct.unpack_from("<H", head, 18)
        if head[4:6] != b"\x02\x01" or found != _ELF[arch]:
            bits = 64 if head[4] == 2 else 32
            raise VerifyError(
                f"/{path.relative_to(root)} is {bits}-bit code for machine {found}, not 64-bit for {_ELF[arch]} ({arch})"
            )
    return count


def _podman(image: ReadImage, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    with TemporaryDirectory(prefix="lsbuild-podman-") as folder:
        podman = [
            "podman",
            "--root",
            f"{folder}/storage",
            "--runroot",
            f"{folder}/run",
            "--runtime",
            shutil.which("runc") or "",
        ]
        podman += ["--cgroup-manager=cgroupfs"]
        try:
            name = _quiet([*podman, "pull", "--quiet", f"--arch={image.arch}", f"oci:{image.root}"]).split()[-1]
            command = [*podman, "run", "--rm", "--pull=never", *_CONFINED, *_LIMITS, name, *_LISTEN]
            with running(command, Path(folder), {"PATH": os.defpath + ":/usr/sbin:/sbin", "HOME": folder}) as started:
                for check in boot_and_ask(started, _BOOT_SECONDS, ask):
                    yield _said(check, "podman and runc, read-only root, no capabilities")
        except VerifyError as error:
            yield Check("boot", False, error.what)
        finally:
            # Unmounts what a killed container left; the folder could not be removed otherwise.
            subprocess.run([*podman, "rm", "--all", "--force"], capture_output=True, check=False)  # noqa: S603
            subprocess.run([*podman, "rmi", "--all", "--force"], capture_output=True, check=False)  # noqa: S603


def _emulated(image: ReadImage, root: Path, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    qemu = next((path for name in ("qemu-aarch64-static", "qemu-aarch64") if (path := shutil.which(name))), None)
    version = _qemu_version(qemu) if qemu and image.arch == "arm64" else 0
    if qemu is None or version < _OLDEST_QEMU:
        found = f"only QEMU {version} is here" if version else "qemu-aarch64 is not installed"
        yield Check(
            "boot (skipped)",
            True,
            f"NOT booted, only its files were checked: {found}, {_OLDEST_QEMU} or newer is needed",
        )
        return
    shutil.copyfile(qemu, root / ".qemu")
    (root / ".qemu").chmod(0o755)
    for check in _chroot(image, root, ("/.qemu",), _EMULATED_SECONDS, ask):
        yield _said(check, f"QEMU {version}, {_EMULATED_CORE}")


def _chroot(
    image: ReadImage, root: Path, before: Sequence[str], seconds: float, ask: Callable[[str], Iterable[Check]]
) -> Iterator[Check]:
    """Run the image's entry point in ``root`` as its own user; what is root's there, it cannot write."""
    settings = image.config["config"]
    user, group = (int(part) for part in settings["User"].split(":"))
    env = dict(entry.split("=", 1) for entry in settings["Env"]) | {"QEMU_CPU": _EMULATED_CORE}
    root.parent.chmod(0o711)  # a temporary folder is closed to others, and the image's user is another

    def confine() -> None:
        os.chroot(root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)

    command = [*before, *settings["Entrypoint"], *_LISTEN]
    try:
        with running(command, Path("/"), env, confine) as started:
            for check in boot_and_ask(started, seconds, ask):
                yield _said(check, "chroot")
    except (OSError, subprocess.SubprocessError) as error:
        yield Check("boot", False, f"cannot start {command[0]} in {root}: {error}")


def _said(check: Check, how: str) -> Check:
    return Check(check.name, check.ok, f"{check.detail} ({how})") if check.name == "boot" else check


def _qemu_version(qemu: str) -> int:
    match = re.search(r"version (\d+)", _quiet([qemu, "--version"]))
    return int(match[1]) if match else 0


def _quiet(command: Sequence[str]) -> str:
    """The output of a command that ends by itself. Raises VerifyError with what it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)  # noqa: S603
    if done.returncode:
        raise VerifyError(f"{command[0]} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
