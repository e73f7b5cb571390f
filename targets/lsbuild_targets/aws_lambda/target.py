"""Target ``lambda``: a function and its layers as zip files, or an image when they are too large, with templates.

The function's code, wheels, models and indexes are separate zips (or image layers), so a change of code does not ship the
weights again. Limits fail before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from lsbuild import bytecode, toolbox
from lsbuild.api import Artifact, Bundle, Check, Deployment, Json, Manifest, Platform, Source, Step, TargetError
from lsbuild.packing.archive import (
    Member,
    check_paths,
    copy_file,
    file_sha256,
    normalise,
    source_date_epoch,
    tree_sha256,
    tree_size,
    write_zip,
)
from lsbuild.packing.debian_base import bytecode_steps, rootfs_step, suite_of, tools_uri, uri
from lsbuild.packing.oci import Layout, Settings
from lsbuild.packing.place import new_folder
from lsbuild.packing.rootfs import TAR
from lsbuild.secret_names import secrets_of
from lsbuild_runtime.manifest import from_json
from lsbuild_targets.aws_lambda import contents, emulator, own_python, record, templates
from lsbuild_targets.aws_lambda import options as limits
from lsbuild_targets.aws_lambda.options import Options, checked
from lsbuild_targets.aws_lambda.unpack import IMAGE, manifest_bytes

_USER = 993
"""Lambda's own user, ``sbx_user1051``."""
_TASK = "var/task"
_ROOTFS = "rootfs"


class Lambda:
    """Packs one bundle; implements ``lsbuild.api.Target``."""

    name = "lambda"
    wheels = ("aws-lambda-powertools>=3.10",)
    tools = (emulator.TOOL, toolbox.SAM, toolbox.TERRAFORM, toolbox.UNSHARE, toolbox.QEMU_USER, toolbox.SKOPEO)
    Options: type[BaseModel] = Options

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """Amazon Linux 2023, also for images: the same wheels fit both."""
        chosen = checked(options)
        return (Platform(chosen.kernel_arch, chosen.python, limits.GLIBC, level=limits.LEVEL),)

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:
        """``debs`` for an image or a Python of our own, ``tools`` to compile bytecode with; neither where no suite has them."""
        chosen = checked(options)
        suite = suite_of(platform.python)
        if not suite or not (_needs_base(chosen) or _needs_tools(platform)):
            return {}
        tools = {"tools": tools_uri(suite, chosen.base)}
        return {**tools, "debs": uri(suite, chosen.base, platform.arch)} if _needs_base(chosen) else tools

    def steps(
        self,
        options: BaseModel,  # noqa: ARG002
        platform: Platform,
        sources: Mapping[str, Source],
    ) -> Mapping[str, Step]:
        """The base, and bytecode unless lsbuild runs on the very Python of the function."""
        steps: dict[str, Step] = {}
        if "debs" in sources:
            suite = suite_of(platform.python)
            steps[_ROOTFS] = rootfs_step(platform, suite, _USER, sources["debs"], sources["tools"])
        if "tools" in sources and _needs_tools(platform):
            steps |= bytecode_steps(platform, sources["tools"])
        return steps

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:
        """Write the folder ``out``: zips or an image layout, templates and ``artifact.json``."""
        chosen = checked(options)
        (bundle,) = bundles
        check_paths(file.path for file in bundle.files)
        contents.refuse_mutable(bundle.manifest)
        python = _own_python(bundle) if chosen.runtime == "provided" and chosen.package != "image" else ()
        packs = contents.packs(bundle, chosen, python)
        as_zip = _fits_into_zips(packs, bundle, chosen)
        mtime = source_date_epoch()
        with new_folder(out, is_artifact) as folder:
            if as_zip:
                zips = tuple(_zip(pack, folder, out, mtime) for pack in packs)
            else:
                zips = ()
                _image(bundle, chosen, folder / IMAGE, out / IMAGE, mtime)
            made = _record(bundle, chosen, zips)
            (folder / record.FILE).write_bytes(record.to_json(made))
            (folder / templates.SAM).write_bytes(templates.sam(made))
            (folder / templates.TERRAFORM).write_bytes(templates.terraform(made))
            normalise(folder, mtime)
        sent = {"zip files": sum(each.size for each in zips)} if zips else {"image": tree_size(out / IMAGE)}
        return Artifact(out, tree_sha256(out), tree_size(out), _said(packs, made), sent)

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        """The manifest inside the function's zip or the image; nothing for anything else."""
        found = record.read(artifact) if artifact.is_dir() else None
        if found is None:
            return ()
        return (from_json(manifest_bytes(artifact, found)),)

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterable[Check]:
        """Check files and static rules, then boot it under AWS's emulator and under our own, and ask it."""
        from lsbuild_targets.aws_lambda import proof

        return proof.verify(artifact, ask)

    def deploy(self, artifact: Path, order: Deployment, say: Callable[[str], None]) -> Mapping[str, Json]:
        """Put the artifact on AWS, or go back; implements ``lsbuild.api.Deploys``."""
        from lsbuild_targets.aws_lambda import deploy

        found = record.read(artifact)
        if found is None:
            raise TargetError("this is no artifact of target lambda", where=str(artifact))
        return deploy.deploy(artifact, found, order, say)

    def layout(self, artifact: Path) -> Path | None:
        """The image, to be pushed to ECR; implements ``lsbuild.api.Images``."""
        found = record.read(artifact)
        return artifact / IMAGE if found is not None and found.package == "image" else None


TARGET = Lambda()


def is_artifact(folder: Path) -> bool:
    """Whether this target wrote the folder."""
    return record.read(folder) is not None


def _needs_base(options: Options) -> bool:
    return options.own_python or (options.package == "auto" and bool(suite_of(options.python)))


def _needs_tools(platform: Platform) -> bool:
    return not bytecode.matches(platform.python)


def _own_python(bundle: Bundle) -> Iterable[Member]:
    return own_python.members(bundle.extras[_ROOTFS] / TAR, f"{contents.LAYER_ROOT}/python")


def _fits_into_zips(packs: Sequence[contents.Pack], bundle: Bundle, options: Options) -> bool:
    """Whether zips it shall be. Raises TargetError, with numbers and the largest files, when a limit stands in the way."""
    left = contents.fits(packs)
    if options.package == "image" or (options.package == "auto" and left < 0 and _ROOTFS in bundle.extras):
        size = sum(contents.size_of(file.content) for file in bundle.files)
        if size > limits.IMAGE:
            raise TargetError(
                f"the image would have {size:,} bytes, and Lambda takes {limits.IMAGE:,}",
                hint=f"The largest files: {contents.largest(bundle.files)}.",
            )
        return False
    if left < 0:
        way_out = (
            "set targets.lambda.package: image"
            if suite_of(options.python)
            else "set targets.lambda.python: 3.13 for an image"
        )
        raise TargetError(
            f"function and layers have {limits.UNZIPPED - left:,} bytes unzipped, {-left:,} more than Lambda's "
            f"{limits.UNZIPPED:,}",
            where="targets.lambda.package",
            hint=f"The largest files: {contents.largest(bundle.files)}. Quantise more, leave a model out, or {way_out}.",
        )
    return True


def _zip(pack: contents.Pack, folder: Path, before: Path, mtime: int) -> record.Zip:
    """Write one zip, or take it over from the artifact that stood here when nothing in it changed."""
    content, path = pack.content, folder / pack.file
    old = _old_zip(before, pack.file)
    if old is not None and old.content == content and _is_whole(before, old):
        copy_file(before / pack.file, path)
    else:
        write_zip(path, pack.members, mtime)
    kind = "function" if pack.file == "function.zip" else "layer"
    return record.Zip(pack.file, kind, content, file_sha256(path), path.stat().st_size, pack.unzipped)  # type: ignore[arg-type]


def _old_zip(before: Path, name: str) -> record.Zip | None:
    known = record.read(before) if before.is_dir() else None
    return next((each for each in known.zips if each.file == name), None) if known else None


def _is_whole(folder: Path, known: record.Zip) -> bool:
    path = folder / known.file
    return path.is_file() and file_sha256(path) == known.sha256


def _image(bundle: Bundle, options: Options, root: Path, before: Path, mtime: int) -> None:
    layout = Layout(root, mtime, before=before if (before / "index.json").is_file() else None)
    layers = [layout.tar_layer(bundle.extras[_ROOTFS] / TAR, f"Debian {suite_of(options.python)}")]
    parts = [part for part, _ in contents.LAYERS]
    own = [Member(f"{_TASK}/lambda.json", contents.settings(bundle.manifest, options))]
    for part in (*parts, ""):
        files = [file for file in bundle.files if (file.part if file.part in parts else "") == part]
        members = [Member(f"{_TASK}/{file.path}", file.content, file.mode) for file in files]
        if members:
            layers.append(layout.layer(members if part else [*members, *own], part or "code and manifest"))
    entrypoint = (f"/usr/bin/python{options.python}", *contents.FLAGS, contents.START, f"/{_TASK}", "/opt/lsbuild")
    settings = Settings(
        entrypoint=entrypoint,
        user="",
        port=0,
        env=("PATH=/usr/bin", "LANG=C.UTF-8", f"LAMBDA_TASK_ROOT=/{_TASK}"),
        labels={"org.opencontainers.image.title": bundle.manifest.name},
    )
    image = layout.image("arm64" if options.arch == "arm64" else "amd64", layers, settings)
    layout.index([image], f"{bundle.manifest.name}:latest")


def _record(bundle: Bundle, options: Options, zips: tuple[record.Zip, ...]) -> record.Record:
    managed = f"python{options.python}"
    return record.Record(
        name=bundle.manifest.name,
        package="zip" if zips else "image",
        arch=options.arch,
        python=options.python,
        runtime="" if not zips else "provided.al2023" if options.runtime == "provided" else managed,
        memory=options.memory,
        timeout=options.timeout,
        url=options.url,
        stream=options.stream,
        snapstart=options.snapstart,
        secrets=secrets_of(bundle.manifest),
        zips=zips,
    )


def _said(packs: Sequence[contents.Pack], made: record.Record) -> str:
    """What was written, and how far it is from Lambda's limits."""
    left = contents.fits(packs)
    total = f"{(limits.UNZIPPED - left) / 1e6:.1f} MB unzipped"
    if made.package == "image":
        beyond = f"{-left / 1e6:.1f} MB more than zip files may have" if left < 0 else "as asked"
        return f"Lambda image for {made.arch}, {total}, {beyond}"
    large = [each.file for each in made.zips if each.size > limits.DIRECT]
    through = f"; {', '.join(large)} over 50 MB: through S3" if large else ""
    return f"Lambda zip files for {made.arch}, {total}, {left / 1e6:.1f} MB below the limit{through}"
