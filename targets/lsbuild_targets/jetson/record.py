"""``artifact.json``: what an artifact of this target is made of and what nobody proved of it, for those who verify it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lsbuild.packing import artifact_record
from lsbuild.packing.artifact_record import FILE

__all__ = ["FILE", "UNPROVED", "Record", "read", "to_json", "unproved"]

UNPROVED = (
    "TensorRT and CUDA on a device: that the wheel's code runs on the GPU, engines are built, and how fast it is",
    "the unit's sandbox with the GPU's device files, and the container with --device nvidia.com/gpu=all",
)
_WITHOUT_WHEEL = ("the module itself: its memory, speed and power modes; models run on its CPU",)


@dataclass(frozen=True, slots=True)
class Record:
    """One artifact. ``files`` maps the kind of a package ("deb", "tar") to its file's name, ``hashes`` that to its sha256.

    ``sm`` is what code is needed for, ``providers`` what models run on, ``gpu`` the facts of the wheel (``gpu.Wheel``; {}
    without one), ``strict`` and ``precision`` as the spec says.
    """

    unit: str
    module: str
    jetpack: str
    python: str
    glibc: str
    sm: int
    files: Mapping[str, str]
    hashes: Mapping[str, str]
    container: bool
    providers: tuple[str, ...]
    strict: bool
    precision: str
    gpu: Mapping[str, object]
    unproved: tuple[str, ...]


def unproved(gpu: Mapping[str, object]) -> tuple[str, ...]:
    """What no build machine can show of an artifact with, or without, a wheel for the GPU."""
    return UNPROVED if gpu else _WITHOUT_WHEEL


def to_json(record: Record) -> bytes:
    """See artifact_record."""
    return artifact_record.to_json("jetson", asdict(record))


def read(artifact: Path) -> Record | None:
    """See artifact_record."""
    return artifact_record.read(artifact, "jetson", lambda value: Record(**value))
