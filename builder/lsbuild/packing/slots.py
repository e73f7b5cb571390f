"""What a slot of a device holds for an artifact that is a bundle, in a folder or in a package; nothing damaged is signed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, cast

from lsbuild.api import Slot
from lsbuild.errors import VerifyError
from lsbuild.packing import deb, untar
from lsbuild.packing.archive import Member
from lsbuild_runtime.manifest import FILE_NAME, ManifestError, check_files, read


def of_folder(root: Path) -> Slot:
    """The files that the manifest in ``root`` names, and itself. Raises VerifyError when one is not what it says."""
    try:
        manifest = read(root)
        check_files(root, manifest.files)
    except ManifestError as error:
        raise VerifyError(str(error), where=str(root)) from error
    names = (FILE_NAME, *(entry.path for entry in manifest.files))
    return Slot(manifest, tuple(Member(name, root / name, (root / name).stat().st_mode & 0o777) for name in names))


def of_package(path: Path, unit: str, scratch: Path) -> Slot:
    """The same for a .deb, which has it in /usr/lib/UNIT, or a .tar.gz of the folder UNIT; unpacked in ``scratch``."""
    if path.suffix == ".deb":
        deb.extract(path, scratch)
        return of_folder(scratch / "usr/lib" / unit)
    with gzip.open(path) as stream:
        untar.extract(cast("IO[bytes]", stream), scratch, path.name)
    return of_folder(scratch / unit)
