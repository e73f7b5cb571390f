"""The power fails after every single operation of an update, and every operation meets a full disk; then the device starts."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from lsbuild.delivery import signing
from lsbuild_runtime.updates.disk import Disk
from lsbuild_runtime.updates.errors import NoRoom, RolledBack, UpdateError
from power_cut import Recorder, after_power_cut, lay_out
from update_tools import WEIGHTS, Machine, Tree, make, tree, write_artifact

FATES = 6 if os.environ.get("LSBUILD_E2E") else 1
"""How often chance decides what was not synced, for each cut; once more all of it is lost."""
OTHER = bytes(reversed(WEIGHTS))


class World(NamedTuple):
    """A factory, updates by their version, and the files of each."""

    factory: Path
    updates: dict[int, Path]
    trees: dict[str, Tree]
    key: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """1 and 2 are good, 3 answers 503, 4 crashes, 5 has other weights."""
    folder = tmp_path_factory.mktemp("world")
    key = signing.new(folder / "key", "")
    trees = {
        "0": tree("0"), "1": tree("1"), "2": tree("2"), "3": tree("3 sick"), "4": tree("4 crash"), "5": tree("5", OTHER)
    }  # fmt: skip
    factory = write_artifact(folder / "factory", trees["0"])
    updates = {}
    for number in range(1, 6):
        artifact = write_artifact(folder / f"v{number}", trees[str(number)])
        (folder / f"web{number}").mkdir()
        updates[number] = make(artifact, key, folder / f"web{number}", number).path
    return World(factory, updates, trees, key.public)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of little folders are made and removed."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(prefix="lsbuild-test-", dir=shared) as folder:
        yield Path(folder)


def serves(machine: Machine, world: World) -> str:
    """The version that a start would serve, whole, to the last byte."""
    found = machine.files()
    return next(name for name, files in world.trees.items() if files == found)


def history(machine: Machine, world: World) -> Iterator[str]:
    """What a device goes through; gives the version that is committed after each step."""
    yield "0"
    machine.apply(world.updates[1])
    yield "1"
    machine.apply(world.updates[2])
    yield "2"
    with pytest.raises(RolledBack, match="503"):
        machine.apply(world.updates[3])
    yield "2"
    with pytest.raises(RolledBack, match="ended"):
        machine.apply(world.updates[4])
    yield "2"
    machine.apply(world.updates[5])
    yield "5"


def test_the_power_is_cut_after_every_operation(
    world: World, memory: Path, capsys: pytest.CaptureFixture[str], record_property: pytest.RecordProperty
) -> None:
    recorder = Recorder(memory / "root")
    with Machine(memory, world.factory, [world.key], recorder) as machine:
        for committed in history(machine, world):
            assert serves(machine, world) == committed
            recorder.say(committed)
    events = recorder.events
    figures = {"operations": len(events), "power_cuts": 0, "old": 0, "new": 0, "none": 0}
    folder = memory / "after"
    folder.mkdir()
    with Machine(folder, world.factory, [world.key]) as machine:
        for cut in range(len(events) + 1):
            said = [event.to for event in events[:cut] if event.kind == "said"]
            under_way = [event.to for event in events[cut:] if event.kind == "said"]
            before, after = said[-1] if said else "0", under_way[0] if under_way else said[-1]
            for fate in (None, *(random.Random(1000 * cut + number) for number in range(FATES))):
                lay_out(after_power_cut(events, cut, fate), machine.place.root)
                machine.boot = "boot-2"
                machine.restart()
                found = serves(machine, world)
                assert found in (before, after), f"power cut at {cut} of {len(events)}: {events[cut - 1]}"
                assert machine.state().trial is None
                if fate is None:
                    machine.apply(world.updates[5], again=True)
                    assert serves(machine, world) == "5"
                figures["power_cuts"] += 1
                figures["old" if found == before else "new"] += 1
                shutil.rmtree(machine.place.root)
    for name, value in figures.items():
        record_property(name, value)
    with capsys.disabled():
        sys.stdout.write("\n  " + ", ".join(f"{name} {value}" for name, value in figures.items()) + " ")
    assert figures["power_cuts"] >= 200


class Failing(Disk):
    """The operation with the number ``countdown``, and all after it, find the disk full; syncs are not done."""

    def __init__(self, countdown: int) -> None:
        self.countdown = countdown

    def _pass(self) -> None:
        self.countdown -= 1
        if self.countdown < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, path: Path, data: bytes) -> None:
        self._pass()
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self._pass()
        super().append(path, data)

    def make_folder(self, path: Path) -> None:
        self._pass()
        super().make_folder(path)

    def symlink(self, path: Path, to: str) -> None:
        self._pass()
        super().symlink(path, to)

    def link(self, path: Path, to: Path) -> None:
        self._pass()
        super().link(path, to)

    def sync_file(self, path: Path) -> None:  # noqa: ARG002
        self._pass()

    def sync_folder(self, path: Path) -> None:
        pass

    def sync_all(self, path: Path) -> None:  # noqa: ARG002
        self._pass()


def test_the_disk_is_full_at_every_operation(world: World, memory: Path) -> None:
    """One clear message, what served serves, and with room the next try succeeds."""
    refused = 0
    with Machine(memory, world.factory, [world.key]) as machine:
        machine.apply(world.updates[1])
        shutil.copytree(machine.place.root, memory / "kept", symlinks=True)
        swift = machine.disk
        for countdown in range(1000):
            shutil.rmtree(machine.place.root)
            shutil.copytree(memory / "kept", machine.place.root, symlinks=True)
            machine.disk = Failing(countdown)
            try:
                machine.apply(world.updates[5])
            except UpdateError as error:
                assert isinstance(error, NoRoom | RolledBack), error
                refused += 1
            else:
                break
            finally:
                machine.disk = swift
            machine.restart()
            assert serves(machine, world) == "1"
            machine.apply(world.updates[5], again=True)
            assert serves(machine, world) == "5"
    assert refused > 20


CHILD = """
import os, signal, sys
from pathlib import Path
from lsbuild_runtime.updates.disk import Disk
from update_tools import Machine

left = int(sys.argv[1])

def killing(name):
    def operation(self, *arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(Disk, name)(self, *arguments)
    return operation

names = ["write", "append", "rename", "link", "symlink", "remove", "make_folder", "remove_folder", "set_mode", "sync_file"]
Killing = type("Killing", (Disk,), {name: killing(name) for name in names})
folder, factory, key, *updates = sys.argv[2:]
with Machine(Path(folder), Path(factory), [key], Killing()) as machine:
    for update in updates:
        machine.apply(Path(update), again=True)
print("through")
"""


def test_an_updater_that_is_killed_leaves_a_device_that_serves(world: World, tmp_path: Path) -> None:
    """A real kill -9, at operations all over two updates."""
    killed = 0
    for countdown in (0, 3, 7, 12, 18, 23, 31, 37, 44, 52, 58, 66):
        folder = tmp_path / str(countdown)
        folder.mkdir()
        words = [folder, world.factory, world.key, world.updates[1], world.updates[5]]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(countdown), *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert done.returncode == -signal.SIGKILL or done.stdout == "through\n", done.stderr
        killed += done.returncode == -signal.SIGKILL
        with Machine(folder, world.factory, [world.key]) as machine:
            machine.boot = f"boot-{countdown}"
            machine.restart()
            assert serves(machine, world) in ("0", "1", "5")
            with suppress(NoRoom):
                machine.apply(world.updates[5], again=True)
            assert serves(machine, world) == "5"
    assert killed >= 8
