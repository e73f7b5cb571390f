"""Pushes an image layout to a registry: blobs, then manifests by digest, the tag last; then reads it back.

Nobody sees half an image: until the last request the tag is what it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsbuild.distribution.client import Client, Host
from lsbuild.distribution.errors import DistributionError
from lsbuild.distribution.known import Known
from lsbuild.distribution.reference import Reference
from lsbuild.distribution.repository import Repository
from lsbuild.errors import VerifyError
from lsbuild.packing.archive import file_sha256
from lsbuild.packing.oci_read import Blob, blob_path, published

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pushed:
    """``image`` is ``HOST/NAME@sha256:HEX``; ``sent``, ``mounted`` and ``there`` are bytes of blobs."""

    image: str
    tag: str
    digest: str
    sent: int
    mounted: int
    there: int


def push(layout: Path, to: Reference, host: Host, known: Known, say: Say) -> Pushed:
    """Make ``to`` name the image in ``layout``. Raises DistributionError, and VerifyError for a layout that is damaged.

    Without a tag in ``to`` the layout's own is taken.
    """
    found = published(layout)
    tag = to.tag or found.name.rpartition(":")[2]
    if to.digest and to.digest != found.top.digest:
        raise DistributionError(f"the image is {found.top.digest}, not {to.digest}", hint="push it to a tag")
    with Client(host) as client:
        repository = Repository(client, to.name, "pull,push")
        bytes_by_way = {"sent": 0, "mounted": 0, "there": 0}
        for blob in found.blobs:
            bytes_by_way[_have(repository, layout, blob, known, say)] += blob.size
        known.remember((blob.digest for blob in found.blobs), to.name)
        for manifest in found.manifests:
            repository.put_manifest(manifest.digest, manifest, _bytes(layout, manifest))
        repository.put_manifest(tag, found.top, _bytes(layout, found.top))
        say(f"{to.repository}:{tag} is {found.top.digest}")
        check(repository, tag, found.top.digest)
    return Pushed(f"{to.repository}@{found.top.digest}", tag, found.top.digest, **bytes_by_way)


def check(repository: Repository, tag: str, digest: str) -> int:
    """Read an image back: its tag, every manifest, and that every blob is there; returns the number of blobs."""
    found = repository.manifest(tag)
    if found is None or found[0].digest != digest:
        there = found[0].digest if found else "nothing"
        raise DistributionError(
            f"{tag} is {there} after {digest} was pushed",
            hint="somebody else pushes to this tag: push again, or take another",
        )
    top = json.loads(found[1])
    manifests = [_manifest(repository, each["digest"]) for each in top["manifests"]] if "manifests" in top else [top]
    blobs = {
        each["digest"]: Blob(each["mediaType"], each["digest"], each["size"])
        for manifest in manifests
        for each in (manifest["config"], *manifest["layers"])
    }
    for blob in blobs.values():
        if not repository.has_blob(blob):
            raise DistributionError(f"{blob.digest} is missing after it was pushed", hint="push it again")
    return len(blobs)


def _have(repository: Repository, layout: Path, blob: Blob, known: Known, say: Say) -> str:
    """Have a blob in the registry; says how it came there."""
    if repository.has_blob(blob):
        return "there"
    origin = known.origin(blob.digest, repository.name)
    if origin and repository.mount(blob, origin):
        say(f"{blob.digest[7:19]}: mounted from {origin}")
        return "mounted"
    place = layout / blob_path(blob.digest)
    if f"sha256:{file_sha256(place)}" != blob.digest:
        raise VerifyError(f"{blob.digest} does not have the content it is named after", where=str(layout))
    say(f"{blob.digest[7:19]}: {blob.size / 1e6:.1f} MB")
    repository.put_blob(blob, place, _quarters(blob, say))
    return "sent"


def _quarters(blob: Blob, say: Say) -> Callable[[int], None]:
    """A line for each quarter of what is large."""
    told = [0]

    def progress(done: int) -> None:
        quarter = 4 * done // blob.size if blob.size > 64 << 20 else 0
        if quarter > told[0]:
            told[0] = quarter
            say(f"{blob.digest[7:19]}: {done / 1e6:.0f} of {blob.size / 1e6:.0f} MB")

    return progress


def _bytes(layout: Path, blob: Blob) -> bytes:
    return (layout / blob_path(blob.digest)).read_bytes()


def _manifest(repository: Repository, digest: str) -> dict[str, Any]:
    found = repository.manifest(digest)
    if found is None:
        raise DistributionError(f"the manifest {digest} is missing after it was pushed", hint="push it again")
    value: dict[str, Any] = json.loads(found[1])
    return value
