"""Target ``host``: a folder with everything and an executable ``run``; it needs a Python of the right version, no more."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from platform import machine
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lsbuild.api import SERVER_WHEELS, Artifact, Bundle, Check, Platform, Source, Step, TargetError
from lsbuild.packing import launcher
from lsbuild.packing.archive import Member, check_paths, source_date_epoch, tree_sha256, tree_size, write_tree
from lsbuild.packing.boot import boot_and_ask, running
from lsbuild.packing.place import new_folder
from lsbuild_runtime.manifest import FILE_NAME, Manifest, ManifestError, check_files, read

_BOOT_SECONDS = 120.0
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


def _arch(value: object) -> object:
    if isinstance(value, str) and value.startswith(("armv", "armhf", "i386", "i686")):
        raise ValueError(
            f"{value} has 32 bits, and onnxruntime is not built for it; use a 64-bit system (x86_64, aarch64)"
        )
    return _ALIASES.get(value, value) if isinstance(value, str) else value


class Options(BaseModel):
    """``targets.host``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    python: str = Field(default=f"{sys.version_info[0]}.{sys.version_info[1]}", pattern=r"^3\.1[1-4]$")
    """The Python it will run on, like ``3.12``. Default: the one that runs lsbuild."""
    arch: Annotated[Literal["x86_64", "aarch64"], BeforeValidator(_arch)] = machine()  # type: ignore[assignment]
    """``x86_64`` or ``aarch64`` (also ``amd64``, ``arm64``). Default: this machine's."""


class Host:
    """Packs one bundle into a folder; implements ``lsbuild.api.Target``."""

    name = "host"
    wheels = SERVER_WHEELS
    Options: type[BaseModel] = Options

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """The one platform of the options."""
        chosen = _checked(options)
        return (Platform(arch=chosen.arch, python=chosen.python),)

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing: Python is the machine's own."""
        return {}

    def steps(
        self,
        options: BaseModel,  # noqa: ARG002
        platform: Platform,  # noqa: ARG002
        sources: Mapping[str, Source],  # noqa: ARG002
    ) -> Mapping[str, Step]:
        """Nothing to prepare."""
        return {}

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:  # noqa: ARG002
        """Write the folder ``out``; an artifact that stands there is replaced in one move, anything else is refused."""
        (bundle,) = bundles
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
            for check in boot_and_ask(started, _BOOT_SECONDS, ask):
                if not check.ok and f"code {launcher.NO_PYTHON}: run: needs" in check.detail:
                    yield Check.skipped("boot", check.detail)
                    return
                yield check
    yield Check("unchanged", tree_sha256(artifact) == before, "its folder is as it was packed")
