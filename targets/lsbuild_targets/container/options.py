"""What ``targets.container`` of a spec may say; pure."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lsbuild.api import TargetError
from lsbuild.packing.debian_base import SUITES, Base
from lsbuild.spec.units import Bytes

REFERENCE = re.compile(r"[a-z0-9]+(?:[._/:-]+[a-z0-9]+)*:[\w][\w.-]{0,127}")


PORT = 8321
"""Where a server listens whose spec takes any free port."""


_IMAGE = re.compile(r"oci:(?://)?(?P<rest>[^#\s]+)")


class ImageBase(Base):
    """What the image is built upon: Debian packages, or with ``image`` another image."""

    image: str | None = None
    """An image by its digest (``oci://HOST/NAME@sha256:HEX``), or a layout or docker-archive beside the spec
    (``oci:./DIR``, ``oci:./FILE.tar``)."""
    python: str | None = Field(default=None, pattern=r"^3\.\d{2}$")
    """The Python that ``image`` brings, like ``"3.12"``. Default: that of ``suite``."""
    glibc: str = Field(default="2.28", pattern=r"^2\.\d{2}$")
    """The oldest glibc that ``image`` may have; wheels are chosen for it."""

    @property
    def version(self) -> str:
        """The Python of the image."""
        return self.python or SUITES[self.suite][0]

    @model_validator(mode="after")
    def _fits_together(self) -> ImageBase:
        match = _IMAGE.fullmatch(self.image or "")
        if self.image is None:
            if {"python", "glibc"} & self.model_fields_set:
                raise ValueError("python and glibc say what base.image brings; Debian's follow from base.suite")
        elif match is None:
            raise ValueError(f"{self.image!r} is not of the form oci://HOST/NAME@sha256:HEX or oci:./DIR")
        elif not match["rest"].startswith((".", "/", "~")) and "@sha256:" not in match["rest"]:
            raise ValueError(
                f"{self.image!r} has no digest, and a tag means another image tomorrow: write "
                f"oci://{match['rest'].partition('@')[0]}@sha256:HEX"
            )
        return self


class Options(BaseModel):
    """``targets.container``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    arch: tuple[Literal["amd64", "arm64"], ...] = Field(default=("amd64", "arm64"), min_length=1)
    """Architectures of the image, like ``[amd64, arm64]``."""
    base: ImageBase = ImageBase()
    """What the image is built upon."""
    user: int = Field(default=65532, ge=1, le=2**31 - 1)
    """Numeric user and group that the server runs as; never root."""
    tag: str | None = None
    """Name and tag of the image. Default: ``NAME:latest``."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """Servers that ``kubernetes.yaml`` and its kin start with."""
    max_replicas: int = Field(default=4, ge=1, le=1000)
    """Servers that an autoscaler goes up to; an image that keeps state in a folder has one."""
    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """Namespace of Kubernetes in those files. Default: that of who applies them."""
    memory: Bytes | None = Field(default=None, ge=64 << 20)
    """Memory of a server, reserved and at most. Default: from the sizes of models and indexes, twice that at most."""
    cpu: int = Field(default=500, ge=10, le=256_000)
    """Processor time that is reserved for a server, in thousandths of a core."""
    archives: tuple[Literal["amd64", "arm64"], ...] | None = None
    """Architectures that are also written as one tar for ``docker load``. Default: the first of ``arch``."""

    def port(self, wanted: int) -> int:
        """The port inside: the spec's, and a fixed one where that says 0, which a container cannot tell anybody."""
        return wanted or PORT

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
