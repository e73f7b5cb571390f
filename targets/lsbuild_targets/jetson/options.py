"""What ``targets.jetson`` of a spec may say, what the modules have, and what JetPack brings; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from lsbuild.api import TargetError
from lsbuild.packing.debian_base import SUITES, Base
from lsbuild.packing.device_package import Device
from lsbuild.packing.gpu import System
from lsbuild.packing.updater import Updates
from lsbuild.spec.units import Bytes

Package = Literal["deb", "tar", "container"]
Provider = Literal["tensorrt", "cuda", "cpu"]
GROUPS = ("video", "render")
"""Groups of a Jetson's device files."""


@dataclass(frozen=True, slots=True)
class Module:
    """One kind of module. ``sm`` is its GPU's compute capability, ``cores`` those of the smallest version, ``memory`` the
    default limit of the server, which leaves the smallest version enough for the system and the GPU's own share.
    """

    title: str
    sm: int
    cores: int
    memory: int


MODULES = {
    "orin-nano": Module("Jetson Orin Nano", 87, 6, 2560 << 20),
    "orin-nx": Module("Jetson Orin NX", 87, 6, 5 << 30),
    "agx-orin": Module("Jetson AGX Orin", 87, 8, 20 << 30),
    "thor": Module("Jetson Thor", 110, 12, 40 << 30),
}


@dataclass(frozen=True, slots=True)
class JetPack:
    """One release: its Jetson Linux, the Python and glibc of its Ubuntu, and what it has of CUDA."""

    l4t: str
    python: str
    glibc: str
    cuda: str
    cudnn: str
    tensorrt: str

    @property
    def majors(self) -> dict[str, int]:
        """Major versions, which libraries are linked with."""
        found = {"cuda": self.cuda, "cudnn": self.cudnn, "tensorrt": self.tensorrt}
        return {name: int(version.partition(".")[0]) for name, version in found.items()}


JETPACKS = {"7.2": JetPack("39.2", "3.12", "2.39", "13.2", "9.20", "10.16")}
_SOURCE = (
    "Wheels for Jetson are built by NVIDIA's developers (the Jetson AI Lab's index, for the JetPack that they name) or by "
    "yourself from onnxruntime's source with CMAKE_CUDA_ARCHITECTURES=87-real;110-real; those of the Python package index "
    "are for servers. Without a wheel the artifact runs on the CPU"
)


def _jetpack(value: object) -> object:
    text = str(value)
    if text.startswith(("4", "5", "6")):
        raise ValueError(
            f"JetPack {text} has an older Python than 3.11, which the runtime needs; flash JetPack 7.2, which is for Orin "
            "and Thor"
        )
    return text


def _several(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class Options(BaseModel):
    """``targets.jetson``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    module: Literal["orin-nano", "orin-nx", "agx-orin", "thor"] = "orin-nano"
    """The module: it sets the GPU that code is needed for, and the limits of memory and processors."""
    jetpack: Annotated[Literal["7.2"], BeforeValidator(_jetpack)] = "7.2"
    """The JetPack on the device."""
    wheel: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """An onnxruntime for the GPU: a path beside the spec, or ``https://HOST/FILE.whl#sha256=HEX``; a list for several Pythons."""
    providers: Annotated[tuple[Provider, ...], BeforeValidator(_several)] = Field(
        default=("tensorrt", "cuda", "cpu"), min_length=1
    )
    """What models run on with that wheel, best first."""
    strict: bool = False
    """Whether a model that its first provider does not take is refused. Default: it runs on the next, and says so."""
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    """What TensorRT may compute in; ``int8`` is for graphs that hold their own quantisation."""
    workspace: Bytes | None = Field(default=None, ge=1 << 20)
    """Most memory that TensorRT may use to build an engine, like ``1GB``. Default: TensorRT's own."""
    gpu_memory: Bytes | None = Field(default=None, ge=1 << 20)
    """Most memory that CUDA's provider may allocate. Default: no limit."""
    memory: Bytes | None = Field(default=None, ge=64 << 20)
    """Most memory that the server may take, like ``4GB``. Default: the module's."""
    threads: int | None = Field(default=None, ge=1, le=14)
    """Cores that the server may use, and threads of a model on the CPU. Default: the module's."""
    power: int | None = Field(default=None, ge=0, le=15)
    """The power mode (of nvpmodel) that the device is meant to have; ``run doctor`` says when it has another."""
    package: Annotated[tuple[Package, ...] | None, BeforeValidator(_several)] = Field(default=None, min_length=1)
    """What is written: ``deb``, ``tar``, ``container``. Default: all that the wheels fit."""
    version: str = Field(default="1.0.0", pattern=r"^[0-9][A-Za-z0-9.+~]*$")
    """Version of the Debian package; apt replaces a lower one."""
    maintainer: str = Field(default="nobody <nobody@localhost>", pattern=r"^[^<>\n]+ <[^<>\s]+@[^<>\s]+>$")
    """Who answers for the package, as ``NAME <ADDRESS>``."""
    updates: Updates | None = None
    """Whose updates the device takes: ``keys``, ``url``. Default: it brings no updater."""
    base: Base = Base()
    """What the container is built upon."""
    user: int = Field(default=65532, ge=1, le=2**31 - 1)
    """Numeric user and group of the container; never root."""

    @field_validator("package", "providers", "wheel")
    @classmethod
    def _once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("one is named twice")
        return value

    @field_validator("wheel")
    @classmethod
    def _wheels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            address, _, pin = each.partition("#")
            if not address.endswith(".whl"):
                raise ValueError(f"{each!r} is no wheel: it has to end with .whl")
            if address.startswith(("http:", "https:")) and not pin.startswith("sha256="):
                raise ValueError(f"{each!r} has no hash: write #sha256=HEX behind it")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needs = {"strict", "providers", "precision", "workspace", "gpu_memory", "power"} & self.model_fields_set
        if not self.wheel and needs:
            raise ValueError(
                f"{', '.join(sorted(needs))}: only with an onnxruntime for the GPU: name it with wheel. " + _SOURCE
            )
        for package in self.package or ():
            if self.wheel and not self.wheel_for(self.python_of(package)):
                python = self.python_of(package)
                raise ValueError(
                    f"package: {package} runs on Python {python}, and no wheel is for cp{python.replace('.', '')}; "
                    "name one as well, or leave that package out"
                )
        if not self.packages:
            raise ValueError(
                f"no wheel is for Python {self.release.python} (JetPack {self.jetpack}) or "
                f"{SUITES[self.base.suite][0]} (the container)"
            )
        return self

    @property
    def of(self) -> Module:
        """The module."""
        return MODULES[self.module]

    @property
    def release(self) -> JetPack:
        """The JetPack."""
        return JETPACKS[self.jetpack]

    @property
    def packages(self) -> tuple[Package, ...]:
        """What is written."""
        every: Sequence[Package] = ("deb", "tar", "container")
        fits = tuple(each for each in every if not self.wheel or self.wheel_for(self.python_of(each)))
        return self.package or fits

    def python_of(self, package: Package) -> str:
        """The Python that a package runs on: JetPack's, or that of the container's base."""
        return SUITES[self.base.suite][0] if package == "container" else self.release.python

    def wheel_for(self, python: str) -> str:
        """The wheel that was built for this Python; "" when none was."""
        tag = f"-cp{python.replace('.', '')}-"
        return next((each for each in self.wheel if tag in each.rpartition("/")[2]), "")

    @property
    def system(self) -> System:
        """What the artifact will find on the device."""
        return system_of(self.module, self.jetpack)

    @property
    def device(self) -> Device:
        """What the packages say of the device."""
        return Device(
            title=self.of.title,
            python=self.release.python,
            memory=self.memory or self.of.memory,
            threads=self.threads or self.of.cores,
            version=self.version,
            maintainer=self.maintainer,
            groups=GROUPS,
            updates=self.updates,
        )


def system_of(module: str, jetpack: str) -> System:
    """What a module has with a JetPack."""
    title, majors = f"{MODULES[module].title} with JetPack {jetpack}", JETPACKS[jetpack].majors
    return System(title, MODULES[module].sm, True, majors, "targets.jetson.wheel", _SOURCE)


def checked(options: BaseModel) -> Options:
    """``options`` as they are ours. Raises TargetError for another target's."""
    if not isinstance(options, Options):
        raise TargetError(f"target jetson was given {type(options).__name__}, not its own Options")
    return options
