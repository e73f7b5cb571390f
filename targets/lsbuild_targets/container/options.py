"""What ``targets.container`` of a spec may say; pure."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lsbuild.api import TargetError
from lsbuild.packing.debian_base import Base

REFERENCE = re.compile(r"[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*:[\w][\w.-]{0,127}")


class Options(BaseModel):
    """``targets.container``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    arch: tuple[Literal["amd64", "arm64"], ...] = Field(default=("amd64", "arm64"), min_length=1)
    """Architectures of the image, like ``[amd64, arm64]``."""
    base: Base = Base()
    """What the image is built upon."""
    user: int = Field(default=65532, ge=1, le=2**31 - 1)
    """Numeric user and group that the server runs as; never root."""
    tag: str | None = None
    """Name and tag of the image. Default: ``NAME:latest``."""
    archives: tuple[Literal["amd64", "arm64"], ...] | None = None
    """Architectures that are also written as one tar for ``docker load``. Default: the first of ``arch``."""

    @field_validator("arch")
    @classmethod
    def _known_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an architecture is named twice")
        return value

    @field_validator("tag")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None and not REFERENCE.fullmatch(value):
            raise ValueError(f"{value!r} is not of the form name:tag, like registry.example/team/assistant:1.0")
        return value


def checked(options: BaseModel) -> Options:
    """``options`` as they are ours. Raises TargetError for another target's."""
    if not isinstance(options, Options):
        raise TargetError(f"target container was given {type(options).__name__}, not its own Options")
    return options
