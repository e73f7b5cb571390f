"""How the function of an unpacked artifact is started here: with which Python, in which environment, or why not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from platform import machine
from tempfile import TemporaryFile
from typing import IO

from lsbuild.api import LsbuildError
from lsbuild.packing.boot_image import QEMU_CPU, qemu_for
from lsbuild.packing.debian_base import suite_of
from lsbuild_targets.aws_lambda import stand_in
from lsbuild_targets.aws_lambda.contents import FLAGS, START
from lsbuild_targets.aws_lambda.record import Record
from lsbuild_targets.aws_lambda.unpack import Sandbox

_KERNEL = {"x86_64": "x86_64", "arm64": "aarch64"}
_KILL_SECONDS = 10.0

Running = tuple[subprocess.Popen[bytes], IO[bytes]]


class Unbootable(Exception):
    """Nothing on this machine can start the function; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Start:
    """A command with its environment, and in words what it stands for."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    how: str


def start(record: Record, sandbox: Sandbox, scratch: Path) -> Start:
    """How to start the function. Raises Unbootable."""
    environment = {
        "PATH": f"{os.defpath}:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "TMPDIR": str(scratch),
        "LAMBDA_TASK_ROOT": str(sandbox.task),
        "LSBUILD_LAYERS": str(sandbox.layers),
        "AWS_LAMBDA_FUNCTION_NAME": record.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(record.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        **record.environment,
    }
    environment.pop("AWS_LAMBDA_EXEC_WRAPPER", None)  # the wrapper is what is started
    if sandbox.root is not None:
        return _image(record, sandbox.root, environment)
    if record.runtime.startswith("provided"):
        return _own_python(record, sandbox, environment)
    if _KERNEL[record.arch] != machine():
        return _stand_in(record, sandbox, environment)
    python = _python(record.python)
    return Start(
        (str(sandbox.task / "bootstrap"), python, "/var/runtime/bootstrap.py"), environment, f"Python {record.python}"
    )


@contextmanager
def process(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Iterator[Running]:
    """A running process and the file with what it printed; it is gone when the block ends."""
    with TemporaryFile() as log:
        started = subprocess.Popen(  # noqa: S603 - the artifact's own command, or AWS's emulator with it
            list(command),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield started, log
        finally:
            _end(started)


def last_words(log: IO[bytes]) -> str:
    """The end of what was printed."""
    log.seek(0)
    return log.read()[-600:].decode("utf-8", "replace").strip() or "no output"


def _end(started: subprocess.Popen[bytes]) -> None:
    """End the process and what it started: they are a session of their own."""
    import signal

    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(started.pid, number)
        except ProcessLookupError:
            break
        try:
            started.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    started.wait()


def _python(version: str) -> str:
    """A Python of that version: LSBUILD_PYTHON, PATH, or where pyenv and uv keep theirs."""
    home = Path.home()
    places = [
        *home.glob(f".pyenv/versions/{version}.*/bin"),
        *home.glob(f".local/share/uv/python/cpython-{version}.*/bin"),
    ]
    names = [
        os.environ.get("LSBUILD_PYTHON", ""),
        f"python{version}",
        *(str(place / "python3") for place in sorted(places)),
    ]
    for name in names:
        found = shutil.which(name) if name else None
        if found and _says(found) == version:
            return found
    raise Unbootable(f"no Python {version} on PATH; install it or set LSBUILD_PYTHON")


def _says(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


def _own_python(record: Record, sandbox: Sandbox, environment: dict[str, str]) -> Start:
    if _KERNEL[record.arch] == machine():
        return Start((str(sandbox.task / "bootstrap"),), environment, "the Python of its own layer")
    # The same under QEMU, in a root of its own: nothing of this machine is seen, as on Lambda not even /sys.
    root = sandbox.task.parent / "root"
    _move_into(root, sandbox)
    usr = "/opt/lsbuild/python/usr"
    libraries = f"{usr}/lib/aarch64-linux-gnu"
    python = (f"{libraries}/ld-linux-aarch64.so.1", "--library-path", libraries, f"{usr}/bin/python{record.python}")
    return _chroot(record, root, (*python, *FLAGS, START, "/var/task", "/opt/lsbuild"), environment)


def _stand_in(record: Record, sandbox: Sandbox, environment: dict[str, str]) -> Start:
    """Under QEMU with Debian's Python, for the managed one is nowhere but on Lambda."""
    if record.arch != "arm64" or not suite_of(record.python):
        raise Unbootable(
            f"the managed Python {record.python} for {record.arch} is not on this {machine()}, and nothing stands in for it; "
            "an image or runtime: provided brings its own"
        )
    _require_emulation()
    root = sandbox.task.parent / "root"
    root.mkdir()
    try:
        python = stand_in.lay_out(record.python, record.arch, root)
    except LsbuildError as error:
        raise Unbootable(f"no Debian to stand in for the managed Python: {error}") from error
    _move_into(root, sandbox)
    ready = _image(record, root, environment)
    return replace(ready, how=f"{python} in the place of Lambda's, {ready.how}")


def _move_into(root: Path, sandbox: Sandbox) -> None:
    """Put the function and its layers where a sandbox has them."""
    for place, folder in (("var/task", sandbox.task), ("opt/lsbuild", sandbox.layers)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        folder.rename(root / place)


def _require_emulation() -> tuple[str, int]:
    """QEMU's path and version. Raises Unbootable where arm64 cannot be run in a root of its own."""
    if os.geteuid() != 0:
        raise Unbootable("that needs root, for chroot")
    found = qemu_for("arm64")
    if isinstance(found, str):
        raise Unbootable(found)
    return found


def _image(record: Record, root: Path, environment: dict[str, str]) -> Start:
    command = (f"/usr/bin/python{record.python}", *FLAGS, START, "/var/task", "/opt/lsbuild")
    return _chroot(record, root, command, environment)


def _chroot(record: Record, root: Path, command: tuple[str, ...], environment: dict[str, str]) -> Start:
    if os.geteuid() != 0:
        raise Unbootable("that needs root, for chroot")
    before: tuple[str, ...] = ()
    how = "chroot"
    if _KERNEL[record.arch] != machine():
        qemu, version = _require_emulation()
        shutil.copyfile(qemu, root / ".qemu")
        (root / ".qemu").chmod(0o755)
        before = ("/.qemu",)
        how = f"chroot without /sys, QEMU {version} as {QEMU_CPU}"
    for name in ("proc", "tmp"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    root.parent.chmod(0o711)
    confine = ("unshare", "--mount", "--mount-proc=/proc", f"--root={root}", "--wd=/")
    inside = {**environment, "TMPDIR": "/tmp", "LAMBDA_TASK_ROOT": "/var/task", "QEMU_CPU": QEMU_CPU}  # noqa: S108
    inside.pop("LSBUILD_LAYERS")
    return Start((*confine, "--", *before, *command), inside, how)
