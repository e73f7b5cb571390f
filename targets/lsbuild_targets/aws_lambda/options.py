"""What ``targets.lambda`` of a spec may say, and Lambda's own limits; pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from lsbuild.api import TargetError
from lsbuild.packing.debian_base import Mirror, suite_of

UNZIPPED = 262_144_000
"""Bytes that function and layers may have together, unzipped."""
DIRECT = 52_428_800
"""Bytes that one zip may have to be uploaded directly; a larger one goes through S3."""
IMAGE = 10 * 2**30
"""Bytes that an image may have, uncompressed."""
LAYERS = 5
"""Layers that a function may have."""
GLIBC = "2.34"
"""glibc of Amazon Linux 2023, which Lambda's Python 3.12 and later run on; the 3.11 runtime has 2.26, too old for the wheels."""
LEVEL = 3
"""x86-64 level of Lambda's processors: all have AVX2."""
_DOCKER = {"amd64": "x86_64", "aarch64": "arm64"}
_MANAGED = ("3.12", "3.13", "3.14")


def _arch(value: object) -> object:
    return _DOCKER.get(value, value) if isinstance(value, str) else value


class Options(BaseModel):
    """``targets.lambda``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    arch: Annotated[Literal["x86_64", "arm64"], BeforeValidator(_arch)] = "x86_64"
    """``x86_64`` or ``arm64`` (Graviton)."""
    python: str = Field(default="3.13", pattern=r"^3\.1[1-4]$")
    """The Python it runs on. Managed runtimes: 3.12, 3.13, 3.14; images and ``runtime: provided``: 3.13, 3.11."""
    package: Literal["auto", "zip", "image"] = "auto"
    """``zip`` files (function and layers), a container ``image``, or ``auto``: zip files where they fit into 250 MB."""
    runtime: Literal["managed", "provided"] = "managed"
    """For zip files: Lambda's ``managed`` Python, or ``provided`` (provided.al2023 with a Python of ours in a layer)."""
    memory: int = Field(default=2048, ge=128, le=10_240)
    """Memory in MB; the share of a processor grows with it (1,769 MB are one core)."""
    timeout: int = Field(default=60, ge=1, le=900)
    """Longest time for one event, in seconds."""
    url: Literal["iam", "public", "none"] = "iam"
    """The function URL: signed with IAM, open to everybody, or none."""
    stream: bool = True
    """Whether the function URL streams answers as they are made (``InvokeMode: RESPONSE_STREAM``)."""
    rest_stream: bool = False
    """Whether events of an API Gateway REST API are answered as a stream; its integration must say ``STREAM`` too."""
    snapstart: bool = False
    """Whether new sandboxes are copies of a snapshot taken after start-up (zip files on a managed runtime)."""
    preload: tuple[str, ...] | None = None
    """Models, stores and agents that are opened before the first event. Default: all that are compiled in."""
    namespace: str = Field(default="lsbuild", max_length=255, pattern=r"^[A-Za-z0-9_./#-]+$")
    """CloudWatch namespace of the metrics."""
    base: Mirror = Mirror()
    """Where the Debian packages come from, which images are built upon and bytecode is compiled with."""

    @field_validator("python")
    @classmethod
    def _has_wheels(cls, value: str) -> str:
        if value not in _MANAGED and not suite_of(value):
            raise ValueError(f"no runtime of Lambda has Python {value}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Options:
        if self.own_python and not suite_of(self.python):
            raise ValueError(f"images and runtime: provided bring Debian's Python, 3.13 or 3.11, not {self.python}")
        if self.package != "image" and self.runtime == "managed" and self.python not in _MANAGED:
            raise ValueError(
                f"Lambda's managed Python {self.python} has a glibc older than {GLIBC}, and onnxruntime does not load there; "
                "choose python 3.13, or runtime: provided"
            )
        if self.snapstart and (self.own_python or self.package == "auto"):
            raise ValueError("snapstart needs package: zip and runtime: managed; Lambda takes no snapshots of others")
        return self

    @property
    def own_python(self) -> bool:
        """Whether the artifact brings its own Python whatever its size."""
        return self.package == "image" or self.runtime == "provided"

    @property
    def kernel_arch(self) -> str:
        """The architecture as the kernel names it."""
        return "aarch64" if self.arch == "arm64" else self.arch


def checked(options: BaseModel) -> Options:
    """``options`` as they are ours. Raises TargetError for another target's."""
    if not isinstance(options, Options):
        raise TargetError(f"target lambda was given {type(options).__name__}, not its own Options")
    return options
