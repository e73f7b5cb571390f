"""What the target jetson writes; nothing is booted here."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gpu_wheels import CP312, CP313
from lsbuild.api import File, TargetError
from lsbuild.packing.archive import tree_sha256
from lsbuild.packing.oci_read import images
from lsbuild_targets.jetson.target import TARGET

MakeJetson = Callable[..., Path]


def unit_of(artifact: Path) -> str:
    with tarfile.open(next(artifact.glob("*.tar.gz"))) as tar:
        reader = tar.extractfile("lsbuild-small/lsbuild-small.service")
        assert reader is not None
        return reader.read().decode()


def test_packages_and_image_are_written_twice_the_same(make_jetson: MakeJetson, tmp_path: Path) -> None:
    one, two = make_jetson(tmp_path / "one"), make_jetson(tmp_path / "other" / "two")
    names = ["artifact.json", "compose.yaml", "lsbuild-small_1.0.0_arm64.deb", "lsbuild-small_1.0.0_arm64.tar.gz"]
    assert sorted(path.name for path in one.iterdir()) == [*names, "manifest.json", "oci"]
    assert tree_sha256(one) == tree_sha256(two)
    assert TARGET.manifests(one)[0].platform == "linux-aarch64-cp312"
    assert TARGET.manifests(tmp_path) == ()


def test_the_unit_may_open_the_gpu_and_is_confined_otherwise(make_jetson: MakeJetson, tmp_path: Path) -> None:
    unit = unit_of(make_jetson(tmp_path / "out", module="agx-orin", package="tar", memory="6GiB", threads=4))
    assert "SupplementaryGroups=video render\n" in unit
    assert "PrivateDevices=no\n" in unit
    assert "DynamicUser=yes\n" in unit
    assert f"MemoryMax={6 << 30}\n" in unit
    assert "CPUAffinity=0 1 2 3\n" in unit
    assert "/usr/bin/python3.12 -I -S" in unit


def test_the_record_says_what_the_wheel_has_and_what_nobody_proved(make_jetson: MakeJetson, tmp_path: Path) -> None:
    out = make_jetson(tmp_path / "out", wheel=CP312, strict=True)
    record = json.loads((out / "artifact.json").read_text())
    assert record["gpu"]["code"] == ["sm_87"]
    assert (record["sm"], record["strict"], record["container"]) == (87, True, False)
    assert any("TensorRT and CUDA on a device" in each for each in record["unproved"])
    assert not (out / "oci").exists()


def test_the_image_is_for_arm64_and_finds_the_devices_cuda(make_jetson: MakeJetson, tmp_path: Path) -> None:
    (image,) = images(make_jetson(tmp_path / "out", wheel=[CP312, CP313]) / "oci")
    settings = image.config["config"]
    assert image.arch == "arm64"
    assert settings["User"] == "65532:65532"
    assert "LD_LIBRARY_PATH=/opt/jetson" in settings["Env"]
    assert "LSBUILD_STATE=/state" in settings["Env"]
    assert "/v1/live" in settings["Healthcheck"]["Test"][-1]


def test_the_compose_file_hands_in_the_gpu(make_jetson: MakeJetson, tmp_path: Path) -> None:
    found = YAML(typ="safe").load((make_jetson(tmp_path / "out") / "compose.yaml").read_text())
    service = found["services"]["small"]
    assert service["devices"] == ["nvidia.com/gpu=all"]
    assert service["read_only"] is True
    assert set(found["volumes"]) == {"state"}


def test_int8_wants_a_graph_with_its_own_quantisation(make_jetson: MakeJetson, tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"... MatMul ...")
    extra = (File("models/embed/model.onnx", graph, part="model"),)
    with pytest.raises(TargetError, match="no model has a graph with a quantisation of its own"):
        make_jetson(tmp_path / "out", extra=extra, wheel=CP312, precision="int8")
    graph.write_bytes(b"... QuantizeLinear ... DequantizeLinear ...")
    assert make_jetson(tmp_path / "out", extra=extra, wheel=CP312, precision="int8").is_dir()


def test_libraries_of_nvidia_are_refused(make_jetson: MakeJetson, tmp_path: Path) -> None:
    extra = (File("site/nvidia/lib/libcudart.so.13", b"", part="wheels"),)
    with pytest.raises(TargetError, match=r"libcudart.so.13: libraries of NVIDIA are not packed"):
        make_jetson(tmp_path / "out", extra=extra)
    assert not (tmp_path / "out").exists()
