"""What a slot of a device holds for an artifact that is a bundle, in a folder or in a package; nothing damaged is signed."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from lsbuild.api import Slot
from lsbuild.errors import TargetError, VerifyError
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
