"""``artifact.json``: what an artifact of this target is made of, for those who verify and deploy it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lsbuild.api import VerifyError

FILE = "artifact.json"


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
    """Sorted, with a final newline."""
    return json.dumps({"target": "lambda", **asdict(record)}, indent=2, sort_keys=True).encode() + b"\n"


def read(artifact: Path) -> Record | None:
    """The record in the folder ``artifact``; None when this target did not make it. Raises VerifyError for a damaged one."""
    try:
        value: dict[str, Any] = json.loads((artifact / FILE).read_bytes())
    except OSError:
        return None
    except ValueError as error:
        raise VerifyError(f"is not readable: {error}", where=str(artifact / FILE), hint="build it again") from error
    if not isinstance(value, dict) or value.pop("target", None) != "lambda":
        return None
    try:
        zips = tuple(Zip(**each) for each in value.pop("zips"))
        return Record(**{**value, "secrets": tuple(value["secrets"])}, zips=zips)
    except (KeyError, TypeError) as error:
        raise VerifyError(
            f"is not as it was written: {error}", where=str(artifact / FILE), hint="build it again"
        ) from error
