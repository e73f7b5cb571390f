"""Bad input to real builds: one clear error that names the place and the way out, the right exit code, nothing half written."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact_tools import QUICKSTART, Done, Lsbuild, write_llama

SPEC = """\
version: 1
name: bad
models:
  chat:
    type: llm
    source: {source}
    quantize: int8
"""


def refused(done: Done, code: int, *words: str) -> None:
    assert done.code == code, done.out + done.err
    for word in words:
        assert word in done.err, done.err
    assert done.out == ""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC.format(source="./model"))
    return tmp_path


def nothing_written(project: Path) -> None:
    assert not (project / "build").exists()
    assert not [path for path in project.rglob("*") if ".partial" in path.name]


def test_a_missing_model_folder(lsbuild: Lsbuild, project: Path) -> None:
    refused(lsbuild("spec.yaml", cwd=project), 3, "./model")
    nothing_written(project)


def test_truncated_weights(lsbuild: Lsbuild, project: Path) -> None:
    weights = write_llama(project / "model") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(lsbuild("spec.yaml", cwd=project), 3, "model.safetensors", "bytes")
    nothing_written(project)


def test_an_unknown_architecture(lsbuild: Lsbuild, project: Path) -> None:
    write_llama(project / "model", architecture="MoonForCausalLM", model_type="moon")
    done = lsbuild("spec.yaml", cwd=project)
    assert done.code in (3, 4), done.err
    assert "MoonForCausalLM" in done.err or "moon" in done.err
    assert "export: true" in done.err
    nothing_written(project)


def test_ten_faults_are_ten_lines(lsbuild: Lsbuild, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "version: 2\nname: Bad Name\nmodle: {}\nmodels:\n  chat: {type: lmm, sorce: x}\n  embed: {quantize: int9}\n"
        "vector_stores:\n  docs: {embedding: nope, sources: []}\nserver: {port: 99999, limits: {body: 1}}\n"
    )
    done = lsbuild(spec)
    places = {line.split("spec.yaml:")[1].split(": ")[0] for line in done.err.splitlines() if "spec.yaml:" in line}
    assert done.code == 2
    assert len(places) >= 10, done.err
    assert "Did you mean 'models'" in done.err


def test_an_unreachable_hub_offline(lsbuild: Lsbuild, project: Path) -> None:
    (project / "spec.yaml").write_text(SPEC.format(source=f"hf://some/model@{'0' * 40}"))
    refused(lsbuild("spec.yaml", "--offline", cwd=project), 11, "hf://some/model", "--offline")
    nothing_written(project)


def test_a_drifted_file_under_locked(lsbuild: Lsbuild, project: Path, quickstart: Path) -> None:
    write_llama(project / "model")
    assert lsbuild("spec.yaml", cwd=project).code == 0
    assert lsbuild("spec.yaml", "--locked", "--offline", cwd=project).code == 0
    config = project / "model" / "config.json"
    config.write_text(config.read_text() + " ")
    refused(lsbuild("spec.yaml", "--locked", cwd=project), 6, "config.json")


def test_a_port_in_use(quickstart: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([quickstart / "run", "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 10
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_folder_that_is_not_ours(lsbuild: Lsbuild, quickstart: Path, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "letter.txt"
    precious.parent.mkdir()
    precious.write_text("dear")
    refused(lsbuild(QUICKSTART, "-o", precious.parent), 7, "not an artifact")
    assert precious.read_text() == "dear"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB that is full soon and can be made read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root and the tool `mount` for a small file system")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"`mount` may not be used here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk(project: Path, small_disk: Path, quickstart: Path) -> None:
    write_llama(project / "model")
    done = Lsbuild(small_disk / "cache")("spec.yaml", cwd=project)
    refused(done, 8, "no space left", "LSBUILD_CACHE")
    nothing_written(project)


def test_a_read_only_cache(project: Path, small_disk: Path) -> None:
    write_llama(project / "model")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(Lsbuild(small_disk / "cache")("spec.yaml", cwd=project), 8, "LSBUILD_CACHE")
    nothing_written(project)


def test_a_killed_build_is_continued(lsbuild: Lsbuild, project: Path, quickstart: Path, tmp_path: Path) -> None:
    """kill -9 at six moments; then a build succeeds, and no folder of a killed one is left in the cache."""
    write_llama(project / "model")
    cache = tmp_path / "cache"
    environ = {**os.environ, "LSBUILD_CACHE": str(cache)}
    dice = random.Random(5)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-m", "lsbuild", "spec.yaml", "-q"],
            cwd=project,
            env=environ,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(dice.uniform(0.3, 3.0))
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        process.wait()
    done = Lsbuild(cache)("spec.yaml", "--json", cwd=project)
    assert done.code == 0, done.out
    assert not list((cache / "tmp").iterdir())
    assert Lsbuild(cache)("cache", "verify").code == 0
