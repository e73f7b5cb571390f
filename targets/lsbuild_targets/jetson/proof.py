"""Proves what can be proved of an artifact without a Jetson: files, native code, the wheel's code, the unit, and a boot
of the image on the CPU; it says by name what nobody proved.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

from lsbuild.api import Check, LsbuildError, Manifest
from lsbuild.packing import deb, device_package, gpu, native, unit_proof, untar
from lsbuild.packing.archive import file_sha256
from lsbuild.packing.boot_image import boot
from lsbuild.packing.bundle_image import ROOT
from lsbuild.packing.debian_base import SUITES
from lsbuild.packing.oci_read import check_blobs, images
from lsbuild.packing.placements import also_placements
from lsbuild_runtime.manifest import FILE_NAME, ManifestError, check_files, read
from lsbuild_targets.jetson import image
from lsbuild_targets.jetson import record as records
from lsbuild_targets.jetson.options import MODULES, system_of
from lsbuild_targets.jetson.record import Record

Ask = Callable[[str], Iterable[Check]]


def verify(artifact: Path, ask: Ask) -> Iterator[Check]:
    """All checks, as they are made."""
    with TemporaryDirectory(prefix="lsbuild-jetson-") as scratch:
        try:
            record = _record(artifact)
            yield Check("packages", True, ", ".join([*record.files.values(), *(["image"] if record.container else [])]))
            for kind, name in record.files.items():
                yield from _package(artifact, record, kind, artifact / name, Path(scratch, kind))
            if record.container:
                yield from _image(artifact, record, Path(scratch, "image"), ask)
            else:
                yield Check.skipped(
                    "boot", f"NOT booted: no Python {record.python} for arm64 here; add container to package"
                )
        except (LsbuildError, ManifestError) as error:
            yield Check("files", False, str(error))
            return
    for what in record.unproved:
        yield Check.unproved(what)


def _record(artifact: Path) -> Record:
    """The record, once the packages that it names have the bytes that were written."""
    record = records.read(artifact)
    if record is None:
        raise LsbuildError(f"no {records.FILE} of target jetson", where=str(artifact))
    for kind, name in record.files.items():
        path = artifact / name
        if not path.is_file() or file_sha256(path) != record.hashes[kind]:
            raise LsbuildError(f"is missing or not what {records.FILE} says", where=str(path), hint="build it again")
    return record


def _package(artifact: Path, record: Record, kind: str, path: Path, root: Path) -> Iterator[Check]:
    """Install a package below ``root``; hold its files against the manifest, its native code against JetPack."""
    root.mkdir()
    if kind == "deb":
        deb.extract(path, root)
        bundle = root / "usr/lib" / record.unit
        unit = root / device_package.UNITS / f"{record.unit}.service"
    else:
        with gzip.open(path) as stream:
            untar.extract(cast("IO[bytes]", stream), root, path.name)
        bundle = root / record.unit
        unit = bundle / f"{record.unit}.service"
    manifest = _same_files(bundle, (artifact / FILE_NAME).read_bytes())
    yield Check(f"{kind} files", True, f"{len(manifest.files)} files match the manifest")
    yield Check(f"{kind} native code", True, _native(bundle, manifest, record.glibc))
    yield Check(f"{kind} GPU", True, _wheel(bundle, record))
    yield replace(unit_proof.judged(unit), name=f"{kind} unit")


def _native(bundle: Path, manifest: Manifest, glibc: str) -> str:
    found = native.require([bundle], "aarch64", glibc, 0)
    gpu.require_none_packed((entry.path for entry in manifest.files), str(bundle))
    return f"{found.count} files for aarch64, glibc {found.glibc} of {glibc}, no library of NVIDIA among them"


def _wheel(bundle: Path, record: Record) -> str:
    """What the packed onnxruntime has for the GPU, read from its own bytes. TargetError when it does not fit."""
    title = MODULES[record.module].title
    if not record.gpu:
        return f"no wheel for the GPU of the {title}: models run on its CPU"
    wanted = [name for name in record.providers if name != "cpu"]
    wheel, _ = gpu.judge(bundle / "site", system_of(record.module, record.jetpack), wanted)
    linked = ", ".join(f"{name} {major}" for name, major in sorted(wheel.majors.items()))
    return f"{wheel.how} for sm_{record.sm} among {', '.join(wheel.code)}; linked with {linked or 'nothing'}"


def _same_files(bundle: Path, wanted: bytes) -> Manifest:
    manifest = read(bundle)
    if (bundle / FILE_NAME).read_bytes() != wanted:
        raise LsbuildError("a package holds another manifest than the one beside it", where=str(bundle))
    check_files(bundle, manifest.files)
    return manifest


def _image(artifact: Path, record: Record, root: Path, ask: Ask) -> Iterator[Check]:
    """Check the image's blobs and files, then boot it: the same bundle as of the packages, but for its Python."""
    layout = artifact / image.FOLDER
    yield Check("image blobs", True, f"{check_blobs(layout)} blobs match their digests")
    (found,) = images(layout)
    root.mkdir()
    found.unpack(root)
    manifest = read(root / ROOT)
    check_files(root / ROOT, manifest.files)
    _require_same_models(manifest, read(artifact))
    yield Check(
        "image files", True, f"{len(manifest.files)} files match the manifest; code and models are the packages' own"
    )
    yield Check("image native code", True, _native(root / ROOT, manifest, _glibc(manifest)))
    yield Check("image GPU", True, _wheel(root / ROOT, record))
    if record.strict:
        yield Check.skipped("boot", "NOT booted: strict, and there is no GPU here; it would refuse to serve")
        return
    yield from boot(found, root, also_placements(ask, manifest))


def _require_same_models(ours: Manifest, theirs: Manifest) -> None:
    """Raises LsbuildError unless models, indexes and the sources of code are those of the packages."""

    def sums(manifest: Manifest) -> dict[str, str]:
        return {
            entry.path: entry.sha256
            for entry in manifest.files
            if entry.part in ("model", "index") or (entry.part == "app" and entry.path.endswith(".py"))
        }

    differ = sorted(sums(ours).items() ^ sums(theirs).items())
    if differ:
        raise LsbuildError(f"{differ[0][0]} of the image is not that of the packages", hint="build it again")


def _glibc(manifest: Manifest) -> str:
    """That of the image's base, which its Python tells apart."""
    return next(
        glibc for python, _, glibc in SUITES.values() if manifest.platform.endswith(f"-cp{python.replace('.', '')}")
    )
