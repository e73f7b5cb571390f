"""``artifact.json``: what an artifact of this target is made of, for those who verify and deploy it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lsbuild.packing import artifact_record
from lsbuild.packing.artifact_record import FILE

__all__ = ["FILE", "Record", "Zip", "read", "to_json"]


@dataclass(frozen=True, slots=True)
class Zip:
    """One zip file. ``content`` identifies its members, ``sha256`` its bytes; sizes in bytes, ``unzipped`` of its files."""

    file: str
    kind: Literal["function", "layer"]
    content: str
    sha256: str
    size: int
    unzipped: int


@dataclass(frozen=True, slots=True)
class Record:
    """One artifact. ``zips`` is empty for an image; ``secrets`` are variables that the function needs."""

    name: str
    package: Literal["zip", "image"]
    arch: Literal["x86_64", "arm64"]
    python: str
    runtime: str
    """Lambda's name: ``python3.13``, ``provided.al2023``, "" for an image."""
    memory: int
    timeout: int
    url: Literal["iam", "public", "none"]
    stream: bool
    snapstart: bool
    secrets: tuple[str, ...]
    zips: tuple[Zip, ...]

    @property
    def function(self) -> Zip:
        """The zip of the function itself."""
        return next(each for each in self.zips if each.kind == "function")

    @property
    def layers(self) -> tuple[Zip, ...]:
        """The zips of its layers, in the order they are laid over each other."""
        return tuple(each for each in self.zips if each.kind == "layer")

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the function is started with, beside its secrets."""
        managed = self.package == "zip" and not self.runtime.startswith("provided")
        return {
            "POWERTOOLS_SERVICE_NAME": self.name,
            **({"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bootstrap"} if managed else {}),
        }


def to_json(record: Record) -> bytes:
    """See artifact_record."""
    return artifact_record.to_json("lambda", asdict(record))


def read(artifact: Path) -> Record | None:
    """See artifact_record."""
    return artifact_record.read(artifact, "lambda", _record)


def _record(value: dict[str, Any]) -> Record:
    zips = tuple(Zip(**each) for each in value.pop("zips"))
    return Record(**{**value, "secrets": tuple(value["secrets"])}, zips=zips)
