"""Target ``jetson``: packages and an image for NVIDIA's modules; what models run on is the user's onnxruntime or the CPU.

CUDA, cuDNN and TensorRT are never packed: JetPack has those that fit its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, cast

from pydantic import BaseModel

from lsbuild import bytecode, toolbox, wheels
from lsbuild.api import (
    SERVER_WHEELS,
    Accelerator,
    Artifact,
    Bundle,
    Check,
    Manifest,
    Platform,
    Slot,
    Source,
    Step,
    TargetError,
)
from lsbuild.packing import deb_write, device_package, gpu, slots
from lsbuild.packing.archive import (
    check_paths,
    file_sha256,
    gzip_stream,
    normalise,
    source_date_epoch,
    tree_sha256,
    tree_size,
    with_folders,
    write_tar,
)
from lsbuild.packing.debian_base import SUITES, bytecode_steps, rootfs_step, tools_uri, uri
from lsbuild.packing.place import new_folder
from lsbuild_runtime.manifest import FILE_NAME, from_json, to_json
from lsbuild_targets.jetson import image, note, record
from lsbuild_targets.jetson.options import Options, checked

_ENGINE, _NUMPY, _GPU = "onnxruntime", "numpy", "gpu"
_QUANTISED = b"DequantizeLinear"
_ARCH = "aarch64"


class Jetson:
    """Packs one bundle for JetPack's Python and one for the container's; implements ``lsbuild.api.Target``."""

    name = "jetson"
    wheels = SERVER_WHEELS
    tools = (toolbox.PODMAN, toolbox.RUNC, toolbox.UNSHARE, toolbox.QEMU_USER, toolbox.SYSTEMD_ANALYZE)
    Options: type[BaseModel] = Options

    def platforms(self, options: BaseModel) -> tuple[Platform, ...]:
        """JetPack's Ubuntu for the packages, Debian for the container."""
        chosen = checked(options)
        release = chosen.release
        packages = Platform(_ARCH, release.python, release.glibc)
        container = Platform(_ARCH, SUITES[chosen.base.suite][0], SUITES[chosen.base.suite][2])
        wanted = [packages] if {"deb", "tar"} & set(chosen.packages) else []
        return (*wanted, *([container] if "container" in chosen.packages else []))

    def accelerator(self, options: BaseModel) -> Accelerator | None:
        """What the wheel runs on; implements ``lsbuild.api.Accelerates``."""
        chosen = checked(options)
        if not chosen.wheel:
            return None
        settings = {
            "strict": chosen.strict,
            "precision": chosen.precision,
            "workspace": chosen.workspace,
            "memory": chosen.gpu_memory,
            "sm": chosen.of.sm,
            "power": chosen.power,
        }
        return Accelerator(chosen.providers, settings, {_ENGINE: (f"{_NUMPY}>=2.2",)})

    def sources(self, options: BaseModel, platform: Platform) -> Mapping[str, str]:
        """The wheel for this Python; for the container its base, and the same for this machine, which compiles bytecode."""
        chosen = checked(options)
        engine = {_ENGINE: wheel} if (wheel := chosen.wheel_for(platform.python)) else {}
        if not _is_container(chosen, platform):
            return engine
        base = chosen.base
        return {**engine, "debs": uri(base.suite, base, platform.arch), "tools": tools_uri(base.suite, base)}

    def steps(self, options: BaseModel, platform: Platform, sources: Mapping[str, Source]) -> Mapping[str, Step]:
        """The wheel unpacked and held against the device; for the container its base and its bytecode."""
        chosen = checked(options)
        steps = _engine_steps(chosen, platform, sources.get(_ENGINE))
        if _is_container(chosen, platform):
            steps["rootfs"] = rootfs_step(platform, chosen.base.suite, chosen.user, sources["debs"], sources["tools"])
            if not bytecode.matches(platform.python):
                steps |= bytecode_steps(platform, sources["tools"])
        return steps

    def pack(self, bundles: tuple[Bundle, ...], options: BaseModel, out: Path) -> Artifact:
        """Write the folder ``out``: packages, image and Compose file, ``manifest.json`` and ``artifact.json``."""
        chosen = checked(options)
        for bundle in bundles:
            check_paths(file.path for file in bundle.files)
            gpu.require_none_packed((file.path for file in bundle.files), "targets.jetson")
            _require_quantised(bundle, chosen)
        mtime = source_date_epoch()
        with new_folder(out, is_artifact) as folder:
            files = dict(_packages(bundles[0], chosen, folder, mtime))
            if "container" in chosen.packages:
                image.write(folder, bundles[-1], chosen, mtime)
            (folder / FILE_NAME).write_bytes(to_json(bundles[0].manifest))
            (folder / record.FILE).write_bytes(record.to_json(_record(bundles[0], chosen, files, folder)))
            normalise(folder, mtime)
        sent = {name: (out / name).stat().st_size for name in files.values()}
        if "container" in chosen.packages:
            sent["arm64 image"] = tree_size(out / image.FOLDER)
        return Artifact(out, tree_sha256(out), tree_size(out), f"{chosen.of.title}: {', '.join(chosen.packages)}", sent)

    def manifests(self, artifact: Path) -> tuple[Manifest, ...]:
        """The manifest beside the packages; nothing for anything else."""
        return (from_json((artifact / FILE_NAME).read_bytes()),) if is_artifact(artifact) else ()

    def verify(self, artifact: Path, ask: Callable[[str], Iterable[Check]]) -> Iterable[Check]:
        """Check the files, the unit and the native code, then boot what can be booted; say what nobody proved."""
        from lsbuild_targets.jetson import proof

        return proof.verify(artifact, ask)

    def slots(self, artifact: Path, scratch: Path) -> tuple[Slot, ...]:
        """The bundle inside a package; implements ``lsbuild.api.Updates``."""
        found = record.read(artifact)
        return (slots.of_packages(artifact, found.files, found.unit, scratch),) if found else ()


TARGET = Jetson()


def is_artifact(folder: Path) -> bool:
    """Whether this target wrote the folder."""
    return folder.is_dir() and (folder / FILE_NAME).is_file() and record.read(folder) is not None


def _require_quantised(bundle: Bundle, options: Options) -> None:
    """TargetError when int8 is asked for and no graph has a quantisation of its own: TensorRT would find nothing to do."""
    graphs = [
        each.content for each in bundle.files if each.path.endswith("/model.onnx") and isinstance(each.content, Path)
    ]
    if options.precision == "int8" and not any(_QUANTISED in graph.read_bytes() for graph in graphs):
        raise TargetError(
            "no model has a graph with a quantisation of its own (QuantizeLinear)",
            where="targets.jetson.precision",
            hint="Use precision: fp16, or give such a graph as an .onnx file in the model's source",
        )


def _is_container(options: Options, platform: Platform) -> bool:
    return "container" in options.packages and platform.python == SUITES[options.base.suite][0]


def _engine_steps(options: Options, platform: Platform, wheel: Source | None) -> dict[str, Step]:
    if wheel is None:
        return {_GPU: note.step(platform, options.of.title)}
    (file,) = wheel.files
    if not file.path.endswith(f"_{_ARCH}.whl"):
        raise TargetError(
            f"{file.path.rpartition('/')[2]} is not for {_ARCH}",
            where="targets.jetson.wheel",
            hint="a Jetson is aarch64",
        )
    named = replace(wheel, files=(replace(file, path=file.path.rpartition("/")[2]),))
    unpacked = replace(wheels.step(platform, wheel.uri, named, beside=[_NUMPY]), name=f"{_ENGINE}.{platform.tag}")
    wanted = [name for name in options.providers if name != "cpu"]
    return {_ENGINE: unpacked, _GPU: gpu.step(platform, unpacked.name, options.system, wanted)}


def _packages(bundle: Bundle, options: Options, folder: Path, mtime: int) -> Iterator[tuple[str, str]]:
    """Write each package; gives its kind and its file's name."""
    device = options.device
    name = device_package.package_name(bundle.manifest)
    stem = f"{name}_{device.version}_arm64"
    if "deb" in options.packages:
        fields, scripts = device_package.fields(bundle, device), device_package.scripts(name)
        deb_write.write(folder / f"{stem}.deb", fields, scripts, device_package.installed(bundle, device), mtime)
        yield "deb", f"{stem}.deb"
    if "tar" in options.packages:
        with (folder / f"{stem}.tar.gz").open("xb") as raw, gzip_stream(raw) as packed:
            write_tar(cast("IO[bytes]", packed), with_folders(device_package.folder(bundle, device)), mtime)
        yield "tar", f"{stem}.tar.gz"


def _record(bundle: Bundle, options: Options, files: Mapping[str, str], folder: Path) -> record.Record:
    facts = asdict(gpu.read(bundle.extras[_GPU])) if options.wheel else {}
    return record.Record(
        unit=device_package.package_name(bundle.manifest),
        module=options.module,
        jetpack=options.jetpack,
        python=bundle.platform.python,
        glibc=bundle.platform.glibc,
        sm=options.of.sm,
        files=files,
        hashes={kind: file_sha256(folder / name) for kind, name in files.items()},
        container="container" in options.packages,
        providers=options.providers if options.wheel else ("cpu",),
        strict=options.strict,
        precision=options.precision,
        gpu=facts,
        unproved=record.unproved(facts),
    )
