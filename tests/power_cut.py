"""A disk that writes down all that an updater does to it, and what such a disk holds after the power fails.

The model is that of ``vec_disk`` for the store, with names beside bytes: what was synced is there; of the rest each
operation is, or is not, or only the first part of its bytes are, in any combination, for a disk may reorder what no sync
orders. A name needs a sync of its folder, bytes need one of their file.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lsbuild_runtime.updates.disk import Disk

FOLDER, LINK = "folder", "link"


class Node(NamedTuple):
    """What a name stands for: a folder, a symbolic link (to ``target``), or a file (``target`` is "" and ``number`` its own)."""

    kind: str
    number: int = 0
    target: str = ""


class Image(NamedTuple):
    """What a disk holds below one folder: names, and bytes and mode of files by their number."""

    names: dict[str, Node]
    data: dict[int, bytes]
    modes: dict[int, int]

    def copy(self) -> Image:
        """One that can be changed."""
        return Image(dict(self.names), dict(self.data), dict(self.modes))


class Event(NamedTuple):
    """One operation. ``name`` is below the recorded folder; ``said`` tells what was acknowledged (``target``)."""

    kind: str
    name: str = ""
    node: Node = Node("")
    data: bytes = b""
    to: str = ""
    mode: int = 0


class Recorder(Disk):
    """Does everything, below ``root``, and records it; syncs are recorded and not done."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self._names: dict[str, Node] = {}
        self._numbers = 0

    def say(self, what: str) -> None:
        """``what`` was acknowledged."""
        self.events.append(Event("said", to=what))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _file(self, path: Path) -> Node:
        name = self._name(path)
        if name not in self._names:
            self._numbers += 1
            self._names[name] = Node("file", self._numbers)
            self.events.append(Event("make", name, self._names[name]))
        return self._names[name]

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, data)
        node = self._file(path)
        self.events.append(Event("empty", node=node))
        if data:
            self.events.append(Event("write", node=node, data=data))

    def append(self, path: Path, data: bytes) -> None:
        super().append(path, data)
        self.events.append(Event("write", node=self._file(path), data=data))

    def set_mode(self, path: Path, mode: int) -> None:
        super().set_mode(path, mode)
        self.events.append(Event("mode", node=self._file(path), mode=mode))

    def sync_file(self, path: Path) -> None:
        self.events.append(Event("sync file", node=self._file(path)))

    def sync_folder(self, path: Path) -> None:
        self.events.append(Event("sync folder", self._name(path)))

    def sync_all(self, path: Path) -> None:  # noqa: ARG002
        self.events.append(Event("sync all"))

    def rename(self, path: Path, to: Path) -> None:
        super().rename(path, to)
        self._names[self._name(to)] = self._names.pop(self._name(path))
        self.events.append(Event("rename", self._name(path), to=self._name(to)))

    def link(self, path: Path, to: Path) -> None:
        if not path.is_relative_to(self.root):  # as under the unit, which sees its own folder as a mount
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        super().link(path, to)
        self._names[self._name(to)] = self._names[self._name(path)]
        self.events.append(Event("make", self._name(to), self._names[self._name(to)]))

    def symlink(self, path: Path, to: str) -> None:
        super().symlink(path, to)
        self._names[self._name(path)] = Node(LINK, target=to)
        self.events.append(Event("make", self._name(path), Node(LINK, target=to)))

    def remove(self, path: Path) -> None:
        super().remove(path)
        del self._names[self._name(path)]
        self.events.append(Event("remove", self._name(path)))

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        if path != self.root:
            self.events.append(Event("make", self._name(path), Node(FOLDER)))

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self.events.append(Event("remove", self._name(path)))


_SYNCS = ("sync file", "sync folder", "sync all", "said")


def after_power_cut(events: Sequence[Event], cut: int, chance: random.Random | None) -> Image:
    """What the disk holds when the power fails after ``events[:cut]``; ``chance`` None loses all that was not synced."""
    files: dict[int, int] = {}
    folders: dict[str, int] = {}
    everything = -1
    for place, event in enumerate(events[:cut]):
        if event.kind == "sync file":
            files[event.node.number] = place
        elif event.kind == "sync folder":
            folders[event.name] = place
        elif event.kind == "sync all":
            everything = place
    image = Image({}, {}, {})
    for place, event in enumerate(events[:cut]):
        if event.kind in _SYNCS:
            continue
        if event.kind in ("make", "rename", "remove"):
            synced = folders.get(_above(event.to or event.name), -1)
        else:
            synced = files.get(event.node.number, -1)
        data = event.data
        if place > max(synced, everything):
            if chance is None or chance.random() < 0.5:
                continue
            if data and chance.random() < 0.3:
                data = data[: chance.randrange(len(data))]
        _apply(image, event, data)
    return image


def _above(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _apply(image: Image, event: Event, data: bytes) -> None:
    names, number = image.names, event.node.number
    if event.kind == "make":
        if _above(event.name) == "." or names.get(_above(event.name)) == Node(FOLDER):
            names[event.name] = event.node
    elif event.kind == "rename":
        if event.name in names:
            names[event.to] = names.pop(event.name)
    elif event.kind == "remove":
        below = [name for name in names if name.startswith(f"{event.name}/")]
        for name in (event.name, *below):
            names.pop(name, None)
    elif event.kind == "empty":
        image.data[number] = b""
    elif event.kind == "write":
        image.data[number] = image.data.get(number, b"") + data
    elif event.kind == "mode":
        image.modes[number] = event.mode


def lay_out(image: Image, root: Path) -> None:
    """Make ``root`` hold what the image does."""
    root.mkdir()
    made: dict[int, Path] = {}
    for name, node in sorted(image.names.items()):
        path = root / name
        if node.kind == FOLDER:
            path.mkdir()
        elif node.kind == LINK:
            path.symlink_to(node.target)
        elif node.number in made:
            path.hardlink_to(made[node.number])
        else:
            path.write_bytes(image.data.get(node.number, b""))
            path.chmod(image.modes.get(node.number, 0o644))
            made[node.number] = path
