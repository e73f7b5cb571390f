"""Reads OCI image layouts and checks every blob against its digest; it writes nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from lsbuild.errors import VerifyError
from lsbuild.packing import untar
from lsbuild.packing.archive import file_sha256

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """A descriptor: ``digest`` is ``sha256:<hex>`` of the stored bytes, ``size`` their number."""

    media: str
    digest: str
    size: int

    def as_json(self) -> dict[str, object]:
        """The descriptor object of the specification."""
        return {"mediaType": self.media, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class ReadImage:
    """One platform's image of a layout: its configuration as JSON, and its layers with their diff_ids."""

    root: Path
    arch: str
    config: Mapping[str, Any]
    layers: tuple[tuple[Blob, str], ...]

    def find(self, path: str) -> bytes | None:
        """The content of a file, looked for from the top layer down."""
        for blob, _ in reversed(self.layers):
            with gzip.open(self.root / blob_path(blob.digest)) as packed:
                for member in untar.members(cast("IO[bytes]", packed), blob.digest):
                    if member.path == path and isinstance(member.content, bytes):
                        return member.content
        return None

    def unpack(self, folder: Path) -> None:
        """Write the layers into ``folder``, lowest first; checks each diff_id. Raises VerifyError, SourceError."""
        for blob, diff_id in self.layers:
            with gzip.open(self.root / blob_path(blob.digest)) as packed:
                stream = _Counting(cast("IO[bytes]", packed))
                untar.extract(cast("IO[bytes]", stream), folder, blob.digest)
                while stream.read(1 << 20):
                    pass
            if stream.digest != diff_id:
                raise VerifyError(f"layer {blob.digest} unpacks to {stream.digest}, its configuration says {diff_id}")


class _Counting:
    """A stream that hashes what is read from it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data


def blob_path(digest: str) -> str:
    """Where a layout keeps the blob ``sha256:<hex>``; VerifyError for anything that is no such digest."""
    if not _DIGEST.fullmatch(digest):
        raise VerifyError(f"{digest!r} is not a sha256 digest")
    return f"blobs/{digest.replace(':', '/')}"


def images(root: Path) -> tuple[ReadImage, ...]:
    """The images that the one index of a layout names. Raises VerifyError when something is missing or malformed."""
    try:
        (entry,) = json.loads((root / "index.json").read_bytes())["manifests"]
        return tuple(_image(root, each) for each in _json(root, entry)["manifests"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerifyError(f"not a readable image layout: {error!r}", where=str(root)) from error


@dataclass(frozen=True, slots=True)
class Published:
    """What a registry gets of a layout: ``top`` is what the tag names, ``name`` the reference that the layout says it has."""

    top: Blob
    manifests: tuple[Blob, ...]
    blobs: tuple[Blob, ...]
    name: str


def published(root: Path) -> Published:
    """The index over all platforms, or the one manifest where there is one platform, which needs no index.

    ``blobs`` are layers and configurations, each once, in the order of the layers. Raises VerifyError.
    """
    try:
        (entry,) = json.loads((root / "index.json").read_bytes())["manifests"]
        entries = _json(root, entry)["manifests"]
        found = [_json(root, each) for each in entries]
        described = [each for manifest in found for each in (*manifest["layers"], manifest["config"])]
        blobs = {each["digest"]: _blob(each) for each in described}
        manifests = tuple(map(_blob, entries))
        top = manifests[0] if len(manifests) == 1 else _blob(entry)
        name = entry.get("annotations", {}).get("io.containerd.image.name", "")
        return Published(top, manifests, tuple(blobs.values()), name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerifyError(f"not a readable image layout: {error!r}", where=str(root)) from error


def check_blobs(root: Path) -> int:
    """Compare every blob's content with its name and return their number. Raises VerifyError naming the first that differs."""
    paths = sorted((root / "blobs").rglob("*/*"))
    for path in paths:
        if not path.is_file() or path.parent.name != "sha256" or file_sha256(path) != path.name:
            raise VerifyError(f"blob {path.name} does not have the content it is named after", where=str(root))
    return len(paths)


def _image(root: Path, entry: Mapping[str, Any]) -> ReadImage:
    manifest = _json(root, entry)
    config = _json(root, manifest["config"])
    blobs = [_blob(layer) for layer in manifest["layers"]]
    for blob in blobs:
        size = (root / blob_path(blob.digest)).stat().st_size
        if size != blob.size:
            raise VerifyError(f"blob {blob.digest} has {size} bytes, its descriptor says {blob.size}", where=str(root))
    return ReadImage(root, config["architecture"], config, tuple(zip(blobs, config["rootfs"]["diff_ids"], strict=True)))


def _blob(entry: Mapping[str, Any]) -> Blob:
    return Blob(entry["mediaType"], entry["digest"], entry["size"])


def _json(root: Path, entry: Mapping[str, Any]) -> Any:
    data = (root / blob_path(entry["digest"])).read_bytes()
    if len(data) != entry["size"] or f"sha256:{hashlib.sha256(data).hexdigest()}" != entry["digest"]:
        raise VerifyError(f"blob {entry['digest']} does not have the content it is named after", where=str(root))
    return json.loads(data)
