"""Two disks for tests, as VFSes of SQLite: one that writes down all that happens to it, one that fails when told."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

BASE = "unix"
SECTOR = 512


class Event(NamedTuple):
    """One thing that happened: ``write`` (data at offset), ``cut`` (to size ``offset``), ``sync``, ``delete`` or ``said``
    (change ``offset`` was acknowledged)."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


class _RecordedFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], events: list[Event]) -> None:
        super().__init__(BASE, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name if path else ""
        self._events = events

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._events.append(Event("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._events.append(Event("cut", self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._events.append(Event("sync", self._name))


class Recorder(apsw.VFS):
    """Records what SQLite does to every file."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__("recorder", BASE)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _RecordedFile(name, flags, self.events)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.events.append(Event("delete", Path(filename).name))


@contextmanager
def default(vfs: apsw.VFS, name: str) -> Iterator[None]:
    """Every connection that is opened inside goes through ``vfs``."""
    apsw.set_default_vfs(name)
    try:
        yield
    finally:
        apsw.set_default_vfs(BASE)
        vfs.unregister()


Files = dict[str, bytearray]


def after_power_cut(first: Mapping[str, bytes], events: list[Event], cut: int, chance: random.Random | None) -> Files:
    """What the disk holds when the power fails after ``events[:cut]``.

    What was synced is there. Of the writes after a file's last sync none is (``chance`` None), or each is or is not, or only
    its first sectors are, in any combination: a disk may reorder what no sync orders.
    """
    last = {event.file: place for place, event in enumerate(events[:cut]) if event.kind == "sync"}
    files: Files = {name: bytearray(data) for name, data in first.items()}
    for place, event in enumerate(events[:cut]):
        if event.kind == "said" or not event.file:
            continue
        data = event.data
        if place > last.get(event.file, -1):
            if chance is None or chance.random() < 0.5:
                continue
            if event.kind == "write" and chance.random() < 0.2:
                data = data[: chance.randrange(0, len(data) + 1, SECTOR) if len(data) > SECTOR else len(data) // 2]
        _apply(files, event, data)
    return files


def _apply(files: Files, event: Event, data: bytes) -> None:
    if event.kind == "delete":
        files.pop(event.file, None)
        return
    content = files.setdefault(event.file, bytearray())
    if event.kind == "write":
        content.extend(bytes(max(0, event.offset + len(data) - len(content))))
        content[event.offset : event.offset + len(data)] = data
    elif event.kind == "cut":
        del content[event.offset :]


class _FailingFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], disk: FailingDisk) -> None:
        super().__init__(BASE, name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.pass_by("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.pass_by("sync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.pass_by("truncate")
        super().xTruncate(newsize)


class FailingDisk(apsw.VFS):
    """Fails the ``countdown``-th operation named in ``fails`` and all after it, until ``mend``."""

    def __init__(self) -> None:
        self.fails: dict[str, Exception] = {}
        self.countdown = 0
        self.failed = 0
        super().__init__("failing", BASE)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _FailingFile(name, flags, self)

    def break_down(self, countdown: int = 0, **fails: Exception) -> None:
        """From now on: let ``countdown`` operations pass, then fail."""
        self.fails, self.countdown, self.failed = dict(fails), countdown, 0

    def mend(self) -> None:
        """The disk is well again."""
        self.fails = {}

    def pass_by(self, operation: str) -> None:
        """Raise when this operation shall fail."""
        if operation in self.fails:
            if self.countdown > 0:
                self.countdown -= 1
                return
            self.failed += 1
            raise self.fails[operation]


def write_files(folder: Path, files: Mapping[str, bytes | bytearray]) -> None:
    """Put files into a folder, and take all others out."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
