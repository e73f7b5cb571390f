"""Reads OCI image layouts and checks every blob against its digest; it writes nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsbuild.errors import VerifyError
from lsbuild.packing import layer
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
            with layer.opened(self.root / blob_path(blob.digest), blob.digest) as stream:
                for entry, reader in layer.entries(stream, blob.digest):
                    if entry.path == path and reader is not None:
                        return reader.read()
        return None

    def unpack(self, folder: Path) -> None:
        """Write the layers into ``folder``, lowest first; checks each diff_id. Raises VerifyError, SourceError."""
        for blob, diff_id in self.layers:
            found = layer.unpack(self.root / blob_path(blob.digest), folder, blob.digest)
            if found != diff_id:
                raise VerifyError(f"layer {blob.digest} unpacks to {found}, its configuration says {diff_id}")


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
    blobs = [_blob(each) for each in manifest["layers"]]
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
