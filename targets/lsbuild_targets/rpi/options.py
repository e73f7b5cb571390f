"""What ``targets.rpi`` of a spec may say, and what the boards have; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from lsbuild.api import TargetError
from lsbuild.delivery import card_settings
from lsbuild.packing.debian_base import SUITES, Base
from lsbuild.packing.updater import Updates
from lsbuild.spec.units import Bytes

Package = Literal["deb", "tar", "image"]
_OF_IMAGES = ("hostname", "ssh_keys", "timezone", "firmware")


@dataclass(frozen=True, slots=True)
class Board:
    """One board. ``qemu`` is QEMU's name of its core, ``page`` that of its usual kernel in bytes, ``memory`` the default limit.

    ``memory`` leaves the smallest version of the board enough for the system; ``threads`` are those of the server.
    ``kernel`` is the Debian suite whose kernel knows the board: that of trixie has no driver for card and network of a Pi 5.
    """

    title: str
    qemu: str
    dotprod: bool
    page: int
    threads: int
    memory: int
    kernel: str = "trixie"


BOARDS = {
    "rpi4": Board("Raspberry Pi 4", "cortex-a72", False, 4096, 4, 768 << 20),
    "rpi5": Board("Raspberry Pi 5", "cortex-a76", True, 16384, 4, 1536 << 20, "trixie-backports"),
    "zero2w": Board("Raspberry Pi Zero 2 W", "cortex-a53", False, 4096, 3, 320 << 20),
}
CORES = 4
"""All three boards have four."""


def _arch(value: object) -> object:
    if isinstance(value, str) and value.startswith(("armv", "armhf", "armel", "arm32")):
        raise ValueError(
            f"{value} has 32 bits, and onnxruntime is not built for it; install the 64-bit Raspberry Pi OS on the same board "
            "(Pi 3, 4, 5 and Zero 2 W) and leave arch out"
        )
    return "arm64" if value == "aarch64" else value


def _several(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class Options(BaseModel):
    """``targets.rpi``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    profile: Literal["rpi4", "rpi5", "zero2w"] = "rpi4"
    """The board: it sets the limits of memory and processors, and what is checked."""
    arch: Annotated[Literal["arm64"], BeforeValidator(_arch)] = "arm64"
    """``arm64``; there is nothing for 32-bit systems."""
    package: Annotated[tuple[Package, ...], BeforeValidator(_several)] = Field(default=("deb", "tar"), min_length=1)
    """What is written: ``deb``, ``tar``, ``image`` (a whole card with a Debian), or a list of them."""
    version: str = Field(default="1.0.0", pattern=r"^[0-9][A-Za-z0-9.+~]*$")
    """Version of the Debian package; apt replaces a lower one."""
    maintainer: str = Field(default="nobody <nobody@localhost>", pattern=r"^[^<>\n]+ <[^<>\s]+@[^<>\s]+>$")
    """Who answers for the package, as ``NAME <ADDRESS>``."""
    memory: Bytes | None = Field(default=None, ge=64 << 20)
    """Most memory that the server may take, like ``1GB``. Default: the profile's."""
    threads: int | None = Field(default=None, ge=1, le=CORES)
    """Cores that the server may use, and threads of a model. Default: the profile's."""
    hostname: str | None = None
    """For ``image``: the name of the board. Default: that of the spec."""
    ssh_keys: tuple[str, ...] = ()
    """For ``image``: public keys with which ``pi`` may log in; without one nobody can."""
    timezone: str | None = None
    """For ``image``: the time zone, like ``Europe/Berlin``. Default: UTC."""
    firmware: str = Field(default="debian", min_length=1)
    """For ``image``: what the board starts with: ``debian``'s packages of it, a folder that holds it, or ``none``."""
    updates: Updates | None = None
    """Whose updates the board takes: ``keys``, ``url``. Default: it brings no updater."""
    base: Base = Base()
    """The system on the board: ``suite`` is that of its Raspberry Pi OS or Debian."""

    @field_validator("package")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a package is named twice")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Options:
        if "image" in self.package and self.base.suite != "trixie":
            raise ValueError(f"an image is made of Debian trixie, not {self.base.suite}; leave base.suite out")
        set_for_image = [name for name in _OF_IMAGES if name in self.model_fields_set]
        if set_for_image and "image" not in self.package:
            raise ValueError(f"{set_for_image[0]} is that of an image: add image to package, or leave it out")
        return self

    @field_validator("hostname", "timezone", "ssh_keys")
    @classmethod
    def _as_on_the_card(cls, value: str | tuple[str, ...] | None, info: ValidationInfo) -> str | tuple[str, ...] | None:
        name = (info.field_name or "").removesuffix("s")
        for each in (value,) if isinstance(value, str) else value or ():
            if wrong := card_settings.fault(name, each):
                raise ValueError(wrong)
        return value

    @property
    def board(self) -> Board:
        """The board of the profile."""
        return BOARDS[self.profile]

    @property
    def python(self) -> str:
        """The Python of the system."""
        return SUITES[self.base.suite][0]


def checked(options: BaseModel) -> Options:
    """``options`` as they are ours. Raises TargetError for another target's."""
    if not isinstance(options, Options):
        raise TargetError(f"target rpi was given {type(options).__name__}, not its own Options")
    return options
