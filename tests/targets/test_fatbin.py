"""The code for GPUs in a library: found in the bytes, and which GPU runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpu_wheels import CUDA_13, fatbin, library
from lsbuild.packing import elf
from lsbuild.packing.fatbin import Code, read, runs

SERVER = (Code(80), Code(86), Code(90, own=True), Code(90, ptx=True))


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "library.so"
    path.write_bytes(data)
    return path


def test_every_kind_of_code_is_found_once(tmp_path: Path) -> None:
    blobs = fatbin([(2, 87, 0x8011), (2, 90, 0x108011)]) + bytes(24) + fatbin([(2, 87, 0x8011), (1, 87, 0x11)])
    found = read(written(tmp_path, library(blobs)))
    assert found == (Code(87), Code(87, ptx=True), Code(90, own=True))
    assert list(map(str, found)) == ["sm_87", "compute_87", "sm_90a"]


def test_a_library_without_code_for_gpus_has_none(tmp_path: Path) -> None:
    assert read(written(tmp_path, library())) == ()


@pytest.mark.parametrize(
    ("sm", "embedded", "how"),
    [
        (86, False, "machine code"),
        (89, False, "machine code"),  # of the same major number, and later
        (75, False, ""),
        (87, False, "machine code"),
        (87, True, ""),  # a Jetson takes none of a server's
        (90, False, "machine code"),
        (91, False, "ptx"),  # sm_90a is for 9.0 alone
        (120, False, "ptx"),
    ],
)
def test_who_runs_which_code(sm: int, *, embedded: bool, how: str) -> None:
    assert runs(SERVER, sm, embedded=embedded) == how


def test_ptx_is_for_later_gpus_only() -> None:
    assert runs([Code(87, ptx=True)], 110, embedded=True) == "ptx"
    assert runs([Code(110, ptx=True)], 87, embedded=True) == ""
    assert runs([Code(90, ptx=True, own=True)], 100, embedded=False) == ""


@pytest.mark.parametrize("cut", [4, 20, 60, 90])
def test_a_fat_binary_that_ends_too_early_is_told(tmp_path: Path, cut: int) -> None:
    with pytest.raises(ValueError, match=r"ends|should begin"):
        read(written(tmp_path, library(fatbin([(2, 87, 0), (2, 110, 0)])[:cut])))


def test_something_else_in_the_section_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 0x1010101 where a fat binary should begin"):
        read(written(tmp_path, library(b"\x01" * 32)))


def test_what_a_library_is_linked_with(tmp_path: Path) -> None:
    assert elf.needed(written(tmp_path, library(needed=CUDA_13))) == CUDA_13


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x01\x01" + bytes(60), library(needed=CUDA_13)[:150]])
def test_what_is_no_whole_elf_file_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match="not a whole ELF file"):
        elf.needed(written(tmp_path, data))


def test_the_code_of_a_real_wheel_is_what_cuobjdump_says(tmp_path: Path) -> None:
    """LSBUILD_GPU_WHEEL names a wheel, LSBUILD_GPU_CODE what cuobjdump --list-elf and --list-ptx say of its library."""
    wheel, said = os.environ.get("LSBUILD_GPU_WHEEL"), os.environ.get("LSBUILD_GPU_CODE", "")
    if not wheel:
        pytest.skip("no LSBUILD_GPU_WHEEL: `pip download --no-deps onnxruntime-gpu`, and set it to the file")
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        name = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
        found = read(Path(archive.extract(name, tmp_path)))
    assert found
    assert not said or " ".join(map(str, found)) == said
