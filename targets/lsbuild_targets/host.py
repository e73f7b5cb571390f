"""Target ``host``: a folder with everything and an executable ``run``; it needs a Python of the right version, no more.

With ``profile: cuda`` the same spec makes a folder for a server with an NVIDIA GPU, whose models run on the CPU where there
is none.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from platform import machine
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lsbuild.api import SERVER_WHEELS, Accelerator, Artifact, Bundle, Check, Platform, Slot, Source, Step, TargetError
from lsbuild.packing import gpu, launcher, slots
from lsbuild.packing.archive import Member, check_paths, source_date_epoch, tree_sha256, tree_size, write_tree
from lsbuild.packing.boot import REFUSES, boot_and_ask, running
from lsbuild.packing.place import new_folder
from lsbuild.packing.placements import also_placements
from lsbuild.spec.units import Bytes
from lsbuild_runtime.manifest import FILE_NAME, Manifest, ManifestError, check_files, read

_BOOT_SECONDS = 120.0
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


def _arch(value: object) -> object:
    if isinstance(value, str) and value.startswith(("armv", "armhf", "i386", "i686")):
        raise ValueError(
            f"{value} has 32 bits, and onnxruntime is not built for it; use a 64-bit system (x86_64, aarch64)"
        )
    return _ALIASES.get(value, value) if isinstance(value, str) else value


Provider = Literal["tensorrt", "cuda", "cpu"]


def _several(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class Options(BaseModel):
    """``targets.host``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    python: str = Field(default=f"{sys.version_info[0]}.{sys.version_info[1]}", pattern=r"^3\.1[1-4]$")
    """The Python it will run on, like ``3.12``. Default: the one that runs lsbuild."""
    arch: Annotated[Literal["x86_64", "aarch64"], BeforeValidator(_arch)] = machine()  # type: ignore[assignment]
    """``x86_64`` or ``aarch64`` (also ``amd64``, ``arm64``). Default: this machine's."""
    profile: Literal["cpu", "cuda"] = "cpu"
    """What models run on: the CPU, or an NVIDIA GPU."""
    sm: int | None = Field(default=None, ge=50, le=199)
    """Compute capability of the GPU without its point (86 for 8.6): what onnxruntime has code for is held against it."""
    cuda: Literal["system", "wheels"] = "system"
    """Where CUDA 13 and cuDNN 9 come from: the server's own, or wheels that are packed (2.2 GB more)."""
    providers: Annotated[tuple[Provider, ...], BeforeValidator(_several)] = Field(default=("cuda", "cpu"), min_length=1)
    """What models run on with ``profile: cuda``, best first; ``tensorrt`` needs TensorRT 10 on the server."""
    strict: bool = False
    """Whether a model that its first provider does not take is refused. Default: it runs on the next, and says so."""
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    """What TensorRT may compute in."""
    gpu_memory: Bytes | None = Field(default=None, ge=1 << 20)
    """Most memory that CUDA's provider may allocate, like ``4GB``. Default: no limit."""

    @model_validator(mode="after")
    def _of_the_profile(self) -> Self:
        own = {"sm", "cuda", "providers", "strict", "precision", "gpu_memory"} & self.model_fields_set
        if self.profile == "cpu" and own:
            raise ValueError(f"{', '.join(sorted(own))}: for profile: cuda only")
        if len(set(self.providers)) != len(self.providers):
            raise ValueError("providers: one is named twice")
        return self


_ENGINE = "onnxruntime-gpu{extras}>=1.31,<1.32"
"""The same onnxruntime as plugins pin, built for CUDA 13."""
_GPU_GLIBC = {"x86_64": "2.28", "aarch64": "2.34"}
"""What these wheels need."""
_UNPROVED = "CUDA on a GPU: that the code for it runs there, how much of its memory models take, and how fast they are"


class Host:
    """Packs one bundle into a folder; implements ``lsbuild.api.Target``."""

    name = "host"
    wheels = SERVER_WHEELS
    Options: type[BaseModel] = Options

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """The one platform of the options."""
        chosen = _checked(options)
        if chosen.profile == "cuda":
            return (Platform(arch=chosen.arch, python=chosen.python, glibc=_GPU_GLIBC[chosen.arch]),)
        return (Platform(arch=chosen.arch, python=chosen.python),)

    def accelerator(self, options: BaseModel) -> Accelerator | None:
        """The GPU of the profile; implements ``lsbuild.api.Accelerates``."""
        chosen = _checked(options)
        if chosen.profile == "cpu":
            return None
        bundled = chosen.cuda == "wheels"
        settings = {
            "strict": chosen.strict,
            "precision": chosen.precision,
            "memory": chosen.gpu_memory,
            "bundled": bundled,
            "sm": chosen.sm or 0,
        }
        engine = _ENGINE.format(extras="[cuda,cudnn]" if bundled else "")
        return Accelerator(chosen.providers, settings, {"onnxruntime": (engine, "numpy>=2.2")})

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing: Python is the machine's own."""
        return {}

    def steps(
        self,
        options: BaseModel,
        platform: Platform,
        sources: Mapping[str, Source],  # noqa: ARG002
    ) -> Mapping[str, Step]:
        """For a GPU, a look at what its onnxruntime has code for; nothing else."""
        chosen = _checked(options)
        if chosen.profile == "cpu":
            return {}
        wanted = [name for name in chosen.providers if name != "cpu"]
        return {"gpu": gpu.step(platform, f"wheels.{platform.tag}", _system(chosen), wanted)}

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:
        """Write the folder ``out``; an artifact that stands there is replaced in one move, anything else is refused."""
        (bundle,) = bundles
        if _checked(options).cuda == "system":
            gpu.require_none_packed((file.path for file in bundle.files), "targets.host.cuda")
        members = [Member(file.path, file.content, file.mode) for file in bundle.files]
        members.append(Member("run", launcher.script(bundle.platform), 0o755))
        check_paths(member.path for member in members)
        mtime = source_date_epoch()
        with new_folder(out, is_artifact) as folder:
            write_tree(folder, members, mtime)
        return Artifact(out, tree_sha256(out), tree_size(out), "folder")

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        """The one manifest of a folder with ``run``; nothing for anything else."""
        return (read(artifact),) if is_artifact(artifact) else ()

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterable[Check]:
        """Check every hash, start ``run`` with a bare environment, ask, stop, and see that nothing was written."""
        try:
            manifest = read(artifact)
            check_files(artifact, manifest.files)
        except ManifestError as error:
            yield Check("files", False, str(error))
            return
        known = {entry.path for entry in manifest.files} | {FILE_NAME, "run"}
        strange = sorted(
            {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()} - known
        )
        if strange:
            yield Check("files", False, f"not in the manifest: {', '.join(strange[:5])}")
            return
        yield Check("files", True, f"{len(manifest.files)} files match the manifest")
        yield from _boot(artifact, manifest, ask)

    def slots(self, artifact: Path, scratch: Path) -> tuple[Slot, ...]:  # noqa: ARG002
        """The bundle as it lies; implements ``lsbuild.api.Updates``."""
        return (slots.of_folder(artifact),)


TARGET = Host()


def is_artifact(folder: Path) -> bool:
    """Whether this target wrote the folder: it has a manifest and ``run``."""
    return (folder / FILE_NAME).is_file() and (folder / "run").is_file()


def _checked(options: BaseModel) -> Options:
    if not isinstance(options, Options):
        raise TargetError(f"target host was given {type(options).__name__}, not its own Options")
    return options


def _boot(artifact: Path, manifest: Manifest, ask: Callable[[str], Iterable[Check]]) -> Iterator[Check]:
    arch = machine()
    if arch not in manifest.platform:
        yield Check.skipped("boot", f"built for {manifest.platform}, this machine is {arch}")
        return
    before = tree_sha256(artifact)
    with tempfile.TemporaryDirectory(prefix="lsbuild-verify-") as scratch:
        # PATH stays, so that any Python of the machine is found; nothing else of the caller's environment does.
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": scratch, "TMPDIR": scratch, "LANG": "C"}
        command = (artifact.absolute() / "run", "--host", "127.0.0.1", "--port", "0")
        with running(command, Path(scratch), env) as started:
            for check in boot_and_ask(started, _BOOT_SECONDS, also_placements(ask, manifest)):
                if not check.ok and f"code {launcher.NO_PYTHON}: run: needs" in check.detail:
                    yield Check.skipped("boot", check.detail)
                    return
                if not check.ok and REFUSES in check.detail and not _has_gpu():
                    # Strict means just that; what it would serve with a GPU, nothing here can show.
                    yield Check("strict", True, check.detail)
                    yield Check.skipped("boot", "it is strict, and this machine has no NVIDIA GPU")
                    break
                yield check
    yield Check("unchanged", tree_sha256(artifact) == before, "its folder is as it was packed")
    if manifest.server.prepare:
        yield Check.unproved(_UNPROVED)


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _system(options: Options) -> gpu.System:
    """What the server will have; the GPU only where the spec says it."""
    return gpu.System(
        title=f"a GPU of sm_{options.sm}" if options.sm else "the server",
        sm=options.sm or 0,
        embedded=False,
        majors={},
        where="targets.host.sm",
        source="Choose another version of onnxruntime-gpu, or build it from source for that GPU",
    )
