"""What verify says of an artifact for a Jetson where nothing can be booted, and of a damaged one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from gpu_wheels import CP312
from lsbuild.api import Check
from lsbuild_targets.jetson.target import TARGET

MakeJetson = Callable[..., Path]


def ask(base_url: str) -> Iterator[Check]:
    raise AssertionError("there is nothing to ask")
    yield


def checks(found: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_packages_are_checked_and_what_is_open_is_told(
    make_jetson: MakeJetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make_jetson(tmp_path / "out", wheel=CP312)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LSBUILD_CACHE", str(tmp_path / "cache"))
    every = list(TARGET.verify(out, ask))
    found = checks(every)
    assert all(check.ok for check in every), every
    assert found["deb files"].detail.endswith("files match the manifest")
    assert "no library of NVIDIA" in found["tar native code"].detail
    assert found["tar GPU"].detail.startswith("machine code for sm_87 among sm_87")
    assert found["boot"].state == "skipped"
    assert any("TensorRT and CUDA on a device" in check.detail for check in every if check.state == "unproved")


def test_a_packed_onnxruntime_without_code_for_the_module_is_told(make_jetson: MakeJetson, tmp_path: Path) -> None:
    out = make_jetson(tmp_path / "out", wheel=CP312, package="tar")
    record = out / "artifact.json"
    record.chmod(0o644)
    record.write_text(record.read_text().replace('"module": "orin-nano"', '"module": "thor"'))
    found = checks(TARGET.verify(out, ask))
    assert not found["files"].ok
    assert "has code for sm_87, and Jetson Thor with JetPack 7.2 needs sm_110" in found["files"].detail


def test_a_changed_package_is_told(make_jetson: MakeJetson, tmp_path: Path) -> None:
    out = make_jetson(tmp_path / "out", package="tar")
    (path,) = out.glob("*.tar.gz")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    found = checks(TARGET.verify(out, ask))
    assert not found["files"].ok
    assert "not what artifact.json says" in found["files"].detail


def test_a_strict_artifact_is_not_booted_without_a_gpu(make_jetson: MakeJetson, tmp_path: Path) -> None:
    wheels = [CP312, CP312.replace("cp312", "cp313")]
    found = checks(TARGET.verify(make_jetson(tmp_path / "out", wheel=wheels, strict=True, package="container"), ask))
    assert found["boot"].state == "skipped"
    assert "strict" in found["boot"].detail
