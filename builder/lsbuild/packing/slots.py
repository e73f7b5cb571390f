"""What a slot of a device holds for an artifact: a bundle, from a folder or a package, or an image; nothing damaged is signed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from lsbuild.api import Manifest, Slot
from lsbuild.errors import TargetError, VerifyError
from lsbuild.packing import deb, untar
from lsbuild.packing.archive import Member, file_sha256
from lsbuild.packing.oci_read import INDEX, blob_path
from lsbuild_runtime.manifest import FILE_NAME, ManifestError, check_files, read, to_json


def of_folder(root: Path) -> Slot:
    """The files that the manifest in ``root`` names, and itself. Raises VerifyError when one is not what it says."""
    try:
        manifest = read(root)
        check_files(root, manifest.files)
    except ManifestError as error:
        raise VerifyError(str(error), where=str(root)) from error
    names = (FILE_NAME, *(entry.path for entry in manifest.files))
    return Slot(manifest, tuple(Member(name, root / name, (root / name).stat().st_mode & 0o777) for name in names))


def of_packages(artifact: Path, files: Mapping[str, str], unit: str, scratch: Path) -> Slot:
    """The same for an artifact of packages (kind -> name): a .deb has it in /usr/lib/UNIT, a tar is the folder UNIT.

    It is unpacked in ``scratch``. Raises TargetError when there is neither.
    """
    if "deb" in files:
        deb.extract(artifact / files["deb"], scratch)
        return of_folder(scratch / "usr/lib" / unit)
    if "tar" not in files:
        raise TargetError("has neither a .deb nor a tar", where=str(artifact), hint="add deb to package of its target")
    with gzip.open(artifact / files["tar"]) as stream:
        untar.extract(cast("IO[bytes]", stream), scratch, files["tar"])
    return of_folder(scratch / unit)


def of_images(layout: Path, manifests: Sequence[Manifest]) -> tuple[Slot, ...]:
    """Each image of a layout as a layout of its own, with its bundle's manifest beside it; in the order of the layout."""
    entries = _json(layout / blob_path(_json(layout / "index.json")["manifests"][0]["digest"]))["manifests"]
    return tuple(
        Slot(manifest, tuple(_image(layout, entry, manifest)), "image")
        for entry, manifest in zip(entries, manifests, strict=True)
    )


def _image(layout: Path, entry: dict[str, Any], manifest: Manifest) -> Iterator[Member]:
    found = _json(layout / blob_path(entry["digest"]))
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    yield Member(FILE_NAME, to_json(manifest))
    yield Member("image/index.json", json.dumps(index, sort_keys=True).encode())
    yield Member("image/oci-layout", layout / "oci-layout")
    for digest in sorted({entry["digest"], found["config"]["digest"], *(each["digest"] for each in found["layers"])}):
        path = layout / blob_path(digest)
        if f"sha256:{file_sha256(path)}" != digest:
            raise VerifyError("does not have the content it is named after", where=str(path), hint="build it again")
        yield Member(f"image/{blob_path(digest)}", path)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise VerifyError(f"not a readable image layout: {error}", where=str(path)) from error
