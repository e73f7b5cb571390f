"""The cache of engines: built once, of one model on one device; never half of one, never an old one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lsbuild_plugins.onnx.serve.engines import BUILDING, key_of, open_cached
from lsbuild_runtime.state_lock import turn


class Builder:
    """Opens a session in a folder as TensorRT does: an engine that is there is read, one that is not is written."""

    def __init__(self, after: Callable[[Path], None] = lambda _: None, *, takes: bool = True) -> None:
        self.built = 0
        self.folders: list[Path] = []
        self._after = after
        self._takes = takes

    def __call__(self, folder: Path) -> str:
        self.folders.append(folder)
        engine = folder / "model_0.engine"
        if engine.exists():
            if engine.read_bytes() != b"whole":
                raise RuntimeError("cannot be deserialised")
            return "read"
        self.built += 1
        if self._takes:
            engine.write_bytes(b"whole")
            (folder / "model.timing").write_bytes(b"t")
        self._after(folder)
        return "built"


def quiet(_what: str) -> None:
    """Tell nobody."""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_engines_are_built_once_and_read_afterwards(tmp_path: Path) -> None:
    build, said = Builder(), []
    assert open_cached(tmp_path, "key", build, said.append) == "read"  # from where they were moved to
    assert open_cached(tmp_path, "key", build, said.append) == "read"
    assert build.built == 1
    assert said == ["building engines"]
    assert names(tmp_path) == {"key"}
    assert build.folders[0].name.startswith(BUILDING)


def test_engines_of_another_model_or_version_are_removed(tmp_path: Path) -> None:
    open_cached(tmp_path, "old", Builder(), quiet)
    open_cached(tmp_path, "new", Builder(), quiet)
    assert names(tmp_path) == {"new"}


def test_what_nobody_finished_is_removed_and_never_read(tmp_path: Path) -> None:
    half = tmp_path / f"{BUILDING}abc"
    half.mkdir()
    (half / "model_0.engine").write_bytes(b"who")
    build = Builder()
    open_cached(tmp_path, "key", build, quiet)
    assert half not in build.folders
    assert names(tmp_path) == {"key"}


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(_folder: Path) -> None:
        raise RuntimeError("no space left on device")

    with pytest.raises(RuntimeError, match="no space"):
        open_cached(tmp_path, "key", Builder(fail), quiet)
    assert names(tmp_path) == set()


KILLED = """
import os, sys
from pathlib import Path
from lsbuild_plugins.onnx.serve.engines import open_cached

def build(folder):
    (folder / "model_0.engine").write_bytes(b"who")
    os._exit(9)

open_cached(Path(sys.argv[1]), "key", build, lambda _: None)
"""


def test_a_process_that_ends_while_it_builds_leaves_no_engine_to_the_next(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == 9
    assert {name.startswith(BUILDING) for name in names(tmp_path)} == {True}
    assert open_cached(tmp_path, "key", Builder(), quiet) == "read"
    assert names(tmp_path) == {"key"}


def test_engines_that_cannot_be_used_are_built_again(tmp_path: Path) -> None:
    build = Builder()
    open_cached(tmp_path, "key", build, quiet)
    (tmp_path / "key" / "model_0.engine").write_bytes(b"of another driver")
    assert open_cached(tmp_path, "key", build, quiet) == "read"
    assert build.built == 2


def test_a_graph_that_tensorrt_takes_nothing_of_keeps_nothing(tmp_path: Path) -> None:
    assert open_cached(tmp_path, "key", Builder(takes=False), quiet) == "built"
    assert names(tmp_path) == set()


def test_engines_stay_while_tensorrt_is_away(tmp_path: Path) -> None:
    open_cached(tmp_path, "key", Builder(), quiet)
    open_cached(tmp_path, "key of a device without TensorRT", Builder(takes=False), quiet)
    assert names(tmp_path) == {"key"}


def test_two_servers_do_not_build_at_a_time(tmp_path: Path) -> None:
    with turn(tmp_path) as ours:
        assert ours
        with pytest.raises(OSError, match="another server on this state folder"):
            open_cached(tmp_path, "key", Builder(), quiet)


def test_a_key_is_of_the_bytes_and_of_every_fact(tmp_path: Path) -> None:
    graph, weights = tmp_path / "model.onnx", tmp_path / "model.data"
    graph.write_bytes(b"graph")
    weights.write_bytes(b"weights")
    first = key_of([graph, weights], ("10.16", "87", "fp16"))
    assert first == key_of([graph, weights], ("10.16", "87", "fp16"))
    others = {
        key_of([graph, weights], facts)
        for facts in (("10.15", "87", "fp16"), ("10.16", "110", "fp16"), ("10.16", "87"))
    }
    weights.write_bytes(b"weighed")
    others.add(key_of([graph, weights], ("10.16", "87", "fp16")))
    assert len(others | {first}) == 5
