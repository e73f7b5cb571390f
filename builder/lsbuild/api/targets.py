"""What targets see of the builder: bundles, artifacts, checks, and what a target has and may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from lsbuild.api.plugins import (
    Json,
    Platform,
    Source,
    Step,
)
from lsbuild_runtime.manifest import Manifest

if TYPE_CHECKING:  # 0.3 CPU seconds that a step's process need not pay
    from pydantic import BaseModel

    from lsbuild.delivery.remote import Remote
    from lsbuild.packing.archive import Member
    from lsbuild.toolbox import Tool


SERVER_WHEELS = ("httptools>=0.6.4", "uvicorn>=0.35")
"""What ``lsbuild_runtime.serve.main`` listens with."""


@dataclass(frozen=True, slots=True)
class File:
    """One file to pack: its path in the artifact (posix), where its bytes are, and its mode (0o644 or 0o755)."""

    path: str
    content: Path | bytes
    mode: int = 0o644
    part: str = "app"
    component: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything one platform's artifact holds, before a target wraps it. ``files`` includes manifest.json; sorted."""

    platform: Platform
    manifest: Manifest
    files: tuple[File, ...]
    extras: Mapping[str, Path] = field(default_factory=dict)
    """Outputs of the target's own steps for this platform, by the step's local name (``rootfs``)."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a target wrote: ``path`` is a file or a folder; ``sha256`` identifies its whole content; ``size`` in bytes."""

    path: Path
    sha256: str
    size: int
    media: str
    """What it is, for people: "folder", "OCI image layout (amd64, arm64)"."""
    packed: Mapping[str, int] = field(default_factory=dict)
    """Bytes that are sent to one machine, by what is sent ("amd64 image", the name of a package); empty when it is sent whole."""


State = Literal["proved", "failed", "skipped", "unproved"]
"""What came of a check. ``skipped`` was not looked at here and could be on another machine or in another way; ``unproved`` no
machine that builds can show: the board, the cloud, the card itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about an artifact: looked at, ``Check(name, ok, detail)``, or left open by ``skipped`` or ``unproved``.

    ``ok`` is False only for what was looked at and found wrong.
    """

    name: str
    ok: bool
    detail: str = ""
    left: Literal["", "skipped", "unproved"] = ""

    @classmethod
    def skipped(cls, name: str, why: str) -> Check:
        """Not looked at: ``why`` says what is missing here and how to get it (``toolbox.Tool.fault``), or why not to ask."""
        return cls(name, True, why, "skipped")

    @classmethod
    def unproved(cls, what: str, name: str = "not proved") -> Check:
        """What nothing here can show: ``what`` lists it."""
        return cls(name, True, what, "unproved")

    @property
    def state(self) -> State:
        """What came of it."""
        return "failed" if not self.ok else self.left or "proved"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a user says when deploying; "" leaves it to the artifact or to the tools' own configuration.

    ``name`` is that of the function, ``role`` the ARN it runs as, ``bucket`` where large files go first, ``image`` the URI of
    an image that was pushed, ``environment`` further variables. ``rollback`` goes back to what was live before.
    """

    name: str = ""
    region: str = ""
    role: str = ""
    bucket: str = ""
    image: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    rollback: bool = False


class Deploys(Protocol):
    """What a target has beside ``Target`` when artifacts of it can be deployed from here."""

    def deploy(self, artifact: Path, order: Deployment, say: Callable[[str], None]) -> Mapping[str, Json]:
        """Make ``artifact`` what answers, or raise and leave everything as it was; ``say`` takes lines for people."""
        ...


@dataclass(frozen=True, slots=True)
class Installed:
    """What ``Pushes.push`` did: the systemd unit that serves now, and in words what was installed."""

    unit: str
    what: str


class Pushes(Protocol):
    """What a target has beside ``Target`` when artifacts of it can be installed on a machine behind ssh."""

    def push(self, artifact: Path, remote: Remote, say: Callable[[str], None]) -> Installed:
        """Install ``artifact`` there and wait until it serves; ``say`` takes lines for people. Raises TargetError."""
        ...


class Images(Protocol):
    """What a target has beside ``Target`` when artifacts of it are images that a registry takes."""

    def layout(self, artifact: Path) -> Path | None:
        """The OCI image layout inside ``artifact``; None where it has another form."""
        ...


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot of a device holds when it runs an artifact: ``files`` of a bundle, or an ``image`` as an OCI layout."""

    manifest: Manifest
    members: tuple[Member, ...]
    content: str = "files"


class Updates(Protocol):
    """What a target has beside ``Target`` when devices that run its artifacts can be updated (docs/updates.md)."""

    def slots(self, artifact: Path, scratch: Path) -> tuple[Slot, ...]:
        """What a slot holds for ``artifact``, for each of its platforms; members may lie in the empty folder ``scratch``.

        Raises TargetError, VerifyError.
        """
        ...


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What models run on beside the CPU.

    ``providers`` are names of onnxruntime's execution providers in small letters, best first: ``tensorrt``, ``cuda``, ``cpu``.
    ``replaces`` maps a distribution that plugins require to what is required in its place; nothing where a step of the
    target ships it. The services of items that require such a distribution are told ``settings`` and ``providers``, as
    ``execution`` in their ``config``, and are opened when the server starts.
    """

    providers: tuple[str, ...]
    settings: Mapping[str, Json] = field(default_factory=dict)
    replaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Accelerates(Protocol):
    """What a target has beside ``Target`` when models of its artifacts may run on something else than the CPU."""

    def accelerator(self, options: BaseModel) -> Accelerator | None:
        """What they run on; None for the CPU alone."""
        ...


class HasTools(Protocol):
    """What a target has beside ``Target`` when its artifacts are proved with programs of this machine."""

    tools: tuple[Tool, ...]
    """Those of ``lsbuild.toolbox``, or ``Tool``s of its own; ``lsbuild doctor`` looks for them."""


class Target(Protocol):
    """What wraps bundles into an artifact, and how that is proved."""

    name: str
    wheels: tuple[str, ...]
    """What the server needs beside the runtime's own wheel: ``SERVER_WHEELS`` where it listens on a port."""
    Options: type[BaseModel]
    """The keys under ``targets.NAME`` that are the target's own."""

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """The platforms to compile for, at least one."""
        ...

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:
        """Local name -> URI of what the target itself needs (``debian:trixie/arm64?python3-minimal,libc6``); locked."""
        ...

    def steps(self, options: BaseModel, platform: Platform, sources: Mapping[str, Source]) -> Mapping[str, Step]:
        """The target's own steps for a platform (a base root file system), by local name."""
        ...

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:
        """Write the artifact at ``out`` (a path that does not exist), sorted and timeless. Limits fail before writing."""
        ...

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        """The manifests inside, one for each platform; empty when ``artifact`` is not of this target."""
        ...

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterable[Check]:
        """Boot the artifact as its target would and call ``ask(base_url)`` for the questions all targets share.

        What cannot be booted here is ``Check.skipped("boot", why)``; what no boot shows is ``Check.unproved(...)``.
        """
        ...
