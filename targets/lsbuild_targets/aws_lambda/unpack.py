"""Reads an artifact back: its manifest, and its files laid out as a sandbox of Lambda has them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lsbuild.api import VerifyError
from lsbuild.packing.oci_read import ReadImage, images
from lsbuild_runtime.manifest import FILE_NAME
from lsbuild_targets.aws_lambda.contents import LAYER_ROOT
from lsbuild_targets.aws_lambda.record import Record

IMAGE = "oci"
"""Folder of an artifact that holds an image layout."""
_MODES = {0o644, 0o755}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where an unpacked artifact lies: ``task`` is /var/task, ``layers`` what is below /opt; ``root`` is an image's root."""

    task: Path
    layers: Path
    root: Path | None = None


def manifest_bytes(artifact: Path, record: Record) -> bytes:
    """``manifest.json`` of the function. Raises VerifyError."""
    if record.package == "image":
        content = image(artifact).find(f"var/task/{FILE_NAME}")
        if content is None:
            raise VerifyError(f"the image has no var/task/{FILE_NAME}", where=str(artifact))
        return content
    path = artifact / record.function.file
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(FILE_NAME)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise VerifyError(f"{FILE_NAME} cannot be read: {error}", where=str(path)) from error


def image(artifact: Path) -> ReadImage:
    """The one image of the layout. Raises VerifyError."""
    found = images(artifact / IMAGE)
    if len(found) != 1:
        raise VerifyError(f"{len(found)} images where one was expected", where=str(artifact / IMAGE))
    return found[0]


def lay_out(artifact: Path, record: Record, folder: Path) -> Sandbox:
    """Unpack everything below ``folder`` (which exists and is empty). Raises VerifyError for what Lambda would not take."""
    if record.package == "image":
        root = folder / "root"
        root.mkdir()
        image(artifact).unpack(root)
        return Sandbox(root / "var/task", root / "opt" / LAYER_ROOT, root)
    task, opt = folder / "task", folder / "opt"
    task.mkdir()
    opt.mkdir()
    for each in record.zips:
        _unzip(artifact / each.file, task if each.kind == "function" else opt)
    return Sandbox(task, opt / LAYER_ROOT)


def _unzip(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check(entry, path.name)
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as sink:
                    while piece := source.read(1 << 20):
                        sink.write(piece)
                target.chmod(entry.external_attr >> 16 & 0o777)
    except (OSError, zipfile.BadZipFile) as error:
        raise VerifyError(f"cannot be unpacked: {error}", where=str(path)) from error


def _check(entry: zipfile.ZipInfo, name: str) -> None:
    """Everybody may read it, it is a file, and it stays inside: Lambda's user is another than the owner."""
    path, mode = PurePosixPath(entry.filename), entry.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
        raise VerifyError(f"holds {entry.filename!r}, which leaves its folder", where=name)
    if mode & 0o170000 not in (0, 0o100000) or mode & 0o777 not in _MODES:
        raise VerifyError(f"holds {entry.filename!r} with mode {mode:o}, not 644 or 755", where=name)
