"""The Debian system that artifacts are checked on: which packages it is made of, kept at build and laid out by a check."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from lsbuild.api import Json, Platform, Source, SourceFile, Step, StepContext
from lsbuild.disk import folder_from
from lsbuild.packing.archive import ZIP_EPOCH, write_tree
from lsbuild.packing.rootfs import join, settings
from lsbuild.sources import FetchContext, debian
from lsbuild_targets.rpi.record import Record

FILE = "base.json"
USER = 61184
"""The first of the ids that systemd gives to a DynamicUser."""


def step(platform: Platform, debs: Source) -> Step:
    """The step that keeps the names and hashes of the packages ``debs``."""
    return Step(
        name=f"base.{platform.tag}", run="lsbuild_targets.rpi.base:names", sources={"debs": debs}, code=(__name__,)
    )


def names(context: StepContext) -> Mapping[str, Json]:
    """Write ``out/base.json``: the URI of source ``debs``, and pool path -> sha256 of its packages."""
    debs = context.sources["debs"]
    listed = {"uri": debs.uri, "files": {file.path: file.sha256 for file in debs.files}}
    (context.out / FILE).write_text(json.dumps(listed, indent=1, sort_keys=True))
    return {"packages": len(debs.files)}


def read(folder: Path) -> tuple[str, Mapping[str, str]]:
    """URI and packages, as ``names`` wrote them."""
    value = json.loads((folder / FILE).read_text())
    return value["uri"], value["files"]


def lay_out(record: Record, root: Path) -> None:
    """Unpack the very packages that the build locked below ``root``. Raises SourceError, OfflineError."""
    pinned = tuple(SourceFile(path, Path(), sha256, 0) for path, sha256 in sorted(record.base.items()))
    context = FetchContext(record.base_uri, root, folder_from(os.environ), False, pinned, "", lambda *_: None)
    source = debian.fetch(record.base_uri.removeprefix("debian:"), context)
    found = join(source.files, lambda *_: None)
    members = [*found.values(), *settings(list(found.values()), USER, "")]
    write_tree(root, {member.path: member for member in members}.values(), ZIP_EPOCH)
