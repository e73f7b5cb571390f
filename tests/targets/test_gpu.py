"""What is said of an onnxruntime for GPUs that fits, and of one that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpu_wheels import CUDA_13, TENSORRT_10, capi, cuda, lay_out, library
from lsbuild.api import Platform, StepContext, TargetError
from lsbuild.packing import gpu
from lsbuild.packing.gpu import System, judge

ORIN = System(
    "Jetson Orin Nano", 87, True, {"cuda": 13, "cudnn": 9, "tensorrt": 10}, "targets.jetson.wheel", "Build it."
)
BOTH = ("tensorrt", "cuda")


def fitting() -> dict[str, bytes]:
    return capi({"cuda": cuda(), "tensorrt": library(needed=TENSORRT_10)})


def test_a_wheel_that_fits(tmp_path: Path) -> None:
    wheel, warnings = judge(lay_out(tmp_path, fitting()), ORIN, BOTH)
    assert wheel.providers == BOTH
    assert (wheel.code, wheel.how) == (("sm_87",), "machine code")
    assert wheel.majors == {"cuda": 13, "cudnn": 9, "tensorrt": 10}
    assert not warnings


def test_a_wheel_without_code_for_the_gpu_is_refused_with_its_list(tmp_path: Path) -> None:
    files = fitting() | capi({"cuda": cuda([(2, 89, 0), (2, 90, 0x100000)])})
    with pytest.raises(TargetError, match=r"has code for sm_89, sm_90a, and Jetson Orin Nano needs sm_87") as refused:
        judge(lay_out(tmp_path, files), ORIN, BOTH)
    assert refused.value.where == "targets.jetson.wheel"
    assert refused.value.hint == "Build it."


def test_code_that_the_driver_has_to_compile_is_a_warning(tmp_path: Path) -> None:
    files = fitting() | capi({"cuda": cuda([(1, 80, 0)])})
    wheel, (warning,) = judge(lay_out(tmp_path, files), ORIN, BOTH)
    assert wheel.how == "ptx"
    assert "no machine code for sm_87, only PTX (compute_80)" in warning


@pytest.mark.parametrize(
    ("library_of", "needed", "said"),
    [
        ("cuda", ("libcudart.so.12",), "linked with CUDA 12, and Jetson Orin Nano has CUDA 13"),
        ("tensorrt", ("libnvinfer.so.11",), "linked with TensorRT 11, and Jetson Orin Nano has TensorRT 10"),
        ("tensorrt", ("libcudnn.so.8",), "linked with cuDNN 8, and Jetson Orin Nano has cuDNN 9"),
    ],
)
def test_another_version_of_nvidias_libraries_is_refused_with_both_named(
    tmp_path: Path, library_of: str, needed: tuple[str, ...], said: str
) -> None:
    made = cuda(needed=needed) if library_of == "cuda" else library(needed=needed)
    with pytest.raises(TargetError, match=said):
        judge(lay_out(tmp_path, fitting() | capi({library_of: made})), ORIN, BOTH)


def test_a_provider_that_is_not_in_the_wheel_is_refused(tmp_path: Path) -> None:
    site = lay_out(tmp_path, capi({"cuda": cuda()}))
    with pytest.raises(TargetError, match="built without TensorRT") as refused:
        judge(site, ORIN, BOTH)
    assert "Leave tensorrt out of providers" in refused.value.hint
    assert judge(site, ORIN, ("cuda",))[0].providers == ("cuda",)


def test_a_wheel_for_the_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="built without CUDA"):
        judge(lay_out(tmp_path, {"onnxruntime/__init__.py": b""}), ORIN, ("cuda",))


def test_a_damaged_library_is_refused(tmp_path: Path) -> None:
    site = lay_out(tmp_path, capi({"cuda": library(b"\x02" * 40, CUDA_13)}))
    with pytest.raises(TargetError, match="where a fat binary should begin"):
        judge(site, ORIN, ("cuda",))


def test_without_a_gpu_in_the_spec_the_code_is_only_told(tmp_path: Path) -> None:
    wheel, (warning,) = judge(lay_out(tmp_path, fitting()), replace(ORIN, sm=0), BOTH)
    assert wheel.how == ""
    assert "has code for sm_87; set sm" in warning


def test_the_step_leaves_facts_for_the_record(tmp_path: Path) -> None:
    site, out = lay_out(tmp_path / "site", fitting()), tmp_path / "out"
    out.mkdir()
    step = gpu.step(Platform("aarch64", "3.12"), "onnxruntime.linux", ORIN, BOTH)
    facts = gpu.inspect(StepContext(out, step.options, {}, {"site": site}, lambda *_: None))
    assert facts["warnings"] == []
    assert gpu.read(out).code == ("sm_87",)


@pytest.mark.parametrize(
    "path", ["site/nvidia/cu13/lib/libcudart.so.13", "site/x/libnvinfer_plugin.so.10.16", "tools/t/libcudnn_ops.so.9"]
)
def test_libraries_of_nvidia_are_not_packed(path: str) -> None:
    with pytest.raises(TargetError, match="are not packed"):
        gpu.require_none_packed(["app/x.py", path], "targets.jetson")


def test_providers_of_onnxruntime_are_none_of_them() -> None:
    gpu.require_none_packed(["site/onnxruntime/capi/libonnxruntime_providers_cuda.so", "site/lib/libcurl.so.4"], "")
