"""Folders of tools: one is there while its server lives, and what a killed server left is removed by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lsbuild_plugins.python_tool.serve.workplace import Workplace, sweep

LEAVES = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from lsbuild_plugins.python_tool.serve.workplace import Workplace
place = Workplace()
open(place.path + "/left", "w").close()
print(place.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sweep.cache_clear()
    return tmp_path


def aged(path: Path) -> None:
    os.utime(path, (1_000_000_000, 1_000_000_000))


def test_a_folder_is_removed_with_its_contents(temporary: Path) -> None:
    place = Workplace()
    (Path(place.path) / "file").write_text("x")
    assert [path.name for path in temporary.iterdir()] == [Path(place.path).name]
    place.remove()
    place.remove()
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_server_that_lives_is_left_and_that_of_a_killed_one_removed(temporary: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", LEAVES, str(temporary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None and server.stdin is not None
    left = Path(server.stdout.readline().strip())
    aged(left)
    sweep(str(temporary))
    assert (left / "left").exists()
    server.send_signal(signal.SIGKILL)
    server.wait()
    server.stdin.close()
    server.stdout.close()
    sweep.cache_clear()
    aged(left)
    place = Workplace()
    assert not left.exists()
    place.remove()


def test_others_and_young_ones_are_left(temporary: Path) -> None:
    young = temporary / "lsbuild-tool-young"
    young.mkdir()
    file, link = temporary / "lsbuild-tool-file", temporary / "lsbuild-tool-link"
    file.write_text("x")
    target = temporary / "target"
    target.mkdir()
    link.symlink_to(target)
    for path in (file, target):
        aged(path)
    sweep(str(temporary))
    assert {path.name for path in temporary.iterdir()} == {young.name, file.name, link.name, "target"}


def test_where_no_folder_can_be_made_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    place = Workplace()
    assert place.path == ""
    place.remove()
