"""Proves an artifact of this target: its files, its native code, its unit, and a boot of the very package under QEMU.

The package is unpacked into a Debian system for arm64 and started by the command of its own unit, on the board's own core.
What that does not show is said by name: the board's memory, speed and hardware.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from platform import machine
from tempfile import TemporaryDirectory
from typing import IO, Self, cast

from lsbuild.api import Check, LsbuildError, Manifest
from lsbuild.packing import deb, native, unit_proof, untar
from lsbuild.packing.archive import file_sha256
from lsbuild.packing.boot_image import Confined, boot_confined, emulator, qemu_for
from lsbuild_runtime.manifest import FILE_NAME, ManifestError, check_files, read
from lsbuild_targets.rpi import base, boot_card, contents
from lsbuild_targets.rpi import record as records
from lsbuild_targets.rpi.options import BOARDS
from lsbuild_targets.rpi.record import Record

Ask = Callable[[str], Iterable[Check]]
_SECONDS = 300.0
_NOTIFY = "run/notify"
_CARD = "image.img"
_UNPROVED = (
    "the board itself: its memory, speed, temperature and firmware; the unit's sandbox where no systemd boots it"
)

_CARD_UNPROVED = {
    "debian": "that the firmware on the card (Debian's raspi-firmware) starts a board, and that its parts work",
    "given": "that the firmware on the card, which is what the folder held, starts a board, and that its parts work",
    "none": "there is NO firmware on the card: a Pi 4 or Zero 2 W does not start from it, only QEMU, and perhaps a Pi 5",
}


def verify(artifact: Path, ask: Ask) -> Iterator[Check]:
    """All checks, as they are made."""
    with TemporaryDirectory(prefix="lsbuild-rpi-") as folder:
        scratch = Path(folder)
        try:
            record = _record(artifact)
            yield Check("packages", True, ", ".join(record.files.values()))
            why = boot_card.missing() if "image" in record.files else ""
            kinds = [kind for kind in sorted(record.files) if kind != "image" or not why]
            if why:
                yield Check.skipped("card", f"the image was NOT opened and NOT booted: {why}")
            if not kinds:
                yield Check.unproved(f"{_UNPROVED}; {_CARD_UNPROVED[record.firmware]}")
                return
            roots = {kind: _unpack(artifact, record, kind, scratch) for kind in kinds}
            manifest = _same_files(artifact, record, roots)
            package = next(iter(roots.values()))
            found = _native(_bundle(package, record), record)
        except (LsbuildError, ManifestError) as error:
            yield Check("files", False, str(error))
            return
        yield Check("files", True, f"{len(manifest.files)} files match the manifest")
        yield Check("native code", True, found)
        unit = _unit_file(record, package)
        yield unit_proof.judged(unit)
        if "deb" in roots or "tar" in roots:
            yield from _boot(record, package, unit, ask)
        if "image" in roots:
            board, port = BOARDS[record.profile], manifest.server.port
            yield from boot_card.boot(scratch / _CARD, board, port, scratch, ask)
        yield Check.unproved(_UNPROVED)
        if "image" in record.files:
            yield Check.unproved(_CARD_UNPROVED[record.firmware], "card on a board")


def _record(artifact: Path) -> Record:
    """The record, once the packages that it names have the bytes that were written."""
    record = records.read(artifact)
    if record is None:
        raise LsbuildError(f"no {records.FILE} of target rpi", where=str(artifact))
    for kind, name in record.files.items():
        path = artifact / name
        if not path.is_file() or file_sha256(path) != record.hashes[kind]:
            raise LsbuildError(f"is missing or not what {records.FILE} says", where=str(path), hint="build it again")
    return record


def _unpack(artifact: Path, record: Record, kind: str, scratch: Path) -> Path:
    """What a package installs, below a folder of its own that stands for the root of a board."""
    path, root = artifact / record.files[kind], scratch / kind
    root.mkdir()
    if kind == "deb":
        deb.extract(path, root)
    elif kind == "tar":
        (root / "opt").mkdir()
        with gzip.open(path) as stream:
            untar.extract(cast("IO[bytes]", stream), root / "opt", path.name)
    else:
        boot_card.unpack(path, scratch / _CARD, record.unit, root)
    return root


def _bundle(root: Path, record: Record) -> Path:
    installed = root / "usr/lib" / record.unit
    return installed if installed.is_dir() else root / "opt" / record.unit


def _same_files(artifact: Path, record: Record, roots: Mapping[str, Path]) -> Manifest:
    """Hold every file against the manifest, in each of the packages; returns it."""
    wanted = (artifact / FILE_NAME).read_bytes()
    for root in roots.values():
        folder = _bundle(root, record)
        manifest = read(folder)
        if (folder / FILE_NAME).read_bytes() != wanted:
            raise LsbuildError("a package holds another manifest than the one beside it", where=str(artifact))
        check_files(folder, manifest.files)
    return manifest


def _native(bundle: Path, record: Record) -> str:
    board = BOARDS[record.profile]
    found = native.require([bundle], "aarch64", record.glibc, 0)
    files = ((path.relative_to(bundle).as_posix(), path) for path in sorted(bundle.rglob("*")) if path.is_file())
    native.require_pages(files, board.page)
    return (
        f"{found.count} files for aarch64, glibc {found.glibc} of {record.glibc}, "
        f"for pages of {board.page // 1024} KiB ({board.title})"
    )


def _unit_file(record: Record, root: Path) -> Path:
    name = f"{record.unit}.service"
    installed = root / contents.UNITS / name
    return installed if installed.is_file() else root / "opt" / record.unit / name


def _boot(record: Record, package: Path, unit: Path, ask: Ask) -> Iterator[Check]:
    """Start the unit's command in a Debian system, as the user of a unit that has none of its own."""
    system = package.parent / "system"
    system.mkdir()
    board, native_here = BOARDS[record.profile], machine() == "aarch64"
    found = ("", 0) if native_here else qemu_for("arm64")
    why = found if isinstance(found, str) else "" if os.geteuid() == 0 else "that needs root, for chroot"
    if isinstance(found, str) or why:
        yield Check.skipped("boot", f"NOT booted, files only: {why}")
        return
    try:
        command, environment = _command(unit)
        base.lay_out(record, system)
        _install(package, system)
    except LsbuildError as error:
        yield Check.skipped("boot", f"NOT booted, files only: {error}")
        return
    before = () if native_here else emulator(found[0], system)
    how = "the system of the board" if native_here else f"Debian for arm64, QEMU {found[1]} as {board.qemu}"
    with _Supervisor(system / _NOTIFY) as supervisor:
        settings = {**environment, "NOTIFY_SOCKET": f"/{_NOTIFY}", "STATE_DIRECTORY": "/var/lib/lsbuild"}
        confined = Confined(system, (base.USER, base.USER), (*before, *command), settings, _SECONDS, board.qemu)
        booted = False
        for check in boot_confined(confined, (*before, command[0]), how, ask):
            booted = booted or (check.name == "boot" and not check.left)
            yield check
        if booted:
            yield supervisor.check()


def _install(package: Path, system: Path) -> None:
    """Move what the package installs into the system; what is there already stays."""
    for path in sorted(package.rglob("*")):
        target = system / path.relative_to(package)
        if not path.is_dir():
            path.rename(target)
        elif not target.is_dir():
            target.mkdir()
            target.chmod(0o755)


class _Supervisor:
    """A socket where systemd's would be, which the server reports to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        self._socket.bind(str(self._path))
        self._path.chmod(0o666)
        self._socket.setblocking(False)
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def check(self) -> Check:
        """That it said when it was ready and that it stops."""
        heard: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += self._socket.recv(4096).decode().splitlines()
        return Check("sd_notify", {"READY=1", "STOPPING=1"} <= set(heard), ", ".join(heard) or "nothing was heard")


def _command(unit: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command of the unit and its environment, read as systemd reads them, but on a free port of this machine."""
    text = unit.read_text()
    environment = dict(word.split("=", 1) for word in shlex.split(_value(text, "Environment")))
    environment |= {"LSBUILD_HOST": "127.0.0.1", "LSBUILD_PORT": "0"}
    words = shlex.split(_value(text, "ExecStart"))
    return tuple(re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], word) for word in words), environment


def _value(unit: str, key: str) -> str:
    match = re.search(rf"^{key}=(.*)$", unit, re.MULTILINE)
    if match is None:
        raise LsbuildError(f"the unit has no {key}")
    return match[1]
