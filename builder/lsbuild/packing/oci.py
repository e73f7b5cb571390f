"""Writes and reads OCI image layouts (opencontainers/image-spec 1.1) as plain files: no daemon, no registry.

The same layers and settings give the same bytes. What goes into an image is the target's affair.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, cast

from lsbuild.errors import VerifyError
from lsbuild.packing import archive
from lsbuild.packing.archive import Member
from lsbuild.packing.oci_read import CONFIG, INDEX, LAYER, MANIFEST, Blob, blob_path, images

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_Write = Callable[[IO[bytes]], None]


@dataclass(frozen=True, slots=True)
class Layer:
    """A compressed layer. ``diff_id`` is the digest of its uncompressed tar."""

    blob: Blob
    diff_id: str
    comment: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How containers of an image start; names are those of the image configuration. ``health`` is Docker's own addition.

    ``port`` is 0 where nothing listens.
    """

    entrypoint: tuple[str, ...]
    user: str
    port: int
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    health: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image: its manifest's descriptor, ``arch`` as OCI names it (amd64, arm64), and its parts."""

    blob: Blob
    arch: str
    config: Blob
    layers: tuple[Layer, ...]


class Layout:
    """An image layout folder that is being written. ``before`` is an older one whose unchanged layers are taken over."""

    def __init__(self, root: Path, mtime: int, before: Path | None = None) -> None:
        self.root = root
        self.mtime = mtime
        self._before = before
        self._known = _known_layers(before) if before else {}
        (root / "blobs" / "sha256").mkdir(parents=True)

    def layer(self, members: Iterable[Member], comment: str) -> Layer:
        """Pack ``members`` (and the folders above them) into a gzip layer."""
        ordered = archive.with_folders(members)

        def write(stream: IO[bytes]) -> None:
            archive.write_tar(stream, ordered, self.mtime)

        return self._layer(write, comment)

    def tar_layer(self, tar: Path, comment: str) -> Layer:
        """Compress a tar that is finished already."""

        def write(stream: IO[bytes]) -> None:
            with tar.open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 20)

        return self._layer(write, comment)

    def adopt(self, file: Path, blob: Blob, diff_id: str, comment: str) -> Layer:
        """Take over a layer of another image as it is; one that nobody compressed is compressed."""
        if not blob.media.endswith(("+gzip", "+zstd")):
            return self.tar_layer(file, comment)
        target = self.root / blob_path(blob.digest)
        if not target.exists():
            archive.copy_file(file, target)
        return Layer(blob, diff_id, comment)

    def image(self, arch: str, layers: Sequence[Layer], settings: Settings) -> Image:
        """Write configuration and manifest of one platform."""
        config = self._json(CONFIG, _config(arch, layers, settings, self.mtime))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.as_json(),
            "layers": [layer.blob.as_json() for layer in layers],
        }
        return Image(self._json(MANIFEST, manifest), arch, config, tuple(layers))

    def index(self, images: Sequence[Image], reference: str) -> Blob:
        """Write the index over all platforms and make it the layout's one entry, named by the tag of ``reference``."""
        entries = [{**image.blob.as_json(), "platform": _platform(image.arch)} for image in images]
        index = self._json(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        named = {
            **index.as_json(),
            "annotations": {
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[-1],
            },
        }
        (self.root / "index.json").write_bytes(_dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}))
        (self.root / "oci-layout").write_bytes(_LAYOUT)
        return index

    def docker_archive(self, path: Path, image: Image, reference: str) -> None:
        """One platform as a tar for ``docker load`` and ``podman load``.

        It is an image layout and carries Docker's ``manifest.json``, as ``docker save`` writes it since version 25.
        """
        entry = {
            "Config": blob_path(image.config.digest),
            "RepoTags": [reference],
            "Layers": [blob_path(layer.blob.digest) for layer in image.layers],
        }
        named = {**image.blob.as_json(), "annotations": {"io.containerd.image.name": reference}}
        blobs = {image.blob.digest, image.config.digest, *(layer.blob.digest for layer in image.layers)}
        members = [
            *(Member(blob_path(digest), self.root / blob_path(digest)) for digest in blobs),
            Member("index.json", _dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]})),
            Member("manifest.json", _dump([entry])),
            Member("oci-layout", _LAYOUT),
        ]
        with path.open("xb") as stream:
            archive.write_tar(stream, archive.with_folders(members), self.mtime)

    def _layer(self, write: _Write, comment: str) -> Layer:
        if self._known:
            plain = _Hashing()
            write(cast("IO[bytes]", plain))
            blob = self._reuse(plain.digest)
            if blob is not None:
                return Layer(blob, plain.digest, comment)
        return self._compress(write, comment)

    def _compress(self, write: _Write, comment: str) -> Layer:
        partial = self.root / "blobs" / f"partial-{uuid.uuid4().hex}"
        with partial.open("wb") as stream:
            stored = _Hashing(stream)
            with archive.gzip_stream(cast("BinaryIO", stored)) as packed:
                plain = _Hashing(packed)
                write(cast("IO[bytes]", plain))
        partial.rename(self.root / blob_path(stored.digest))
        blob = Blob(LAYER, stored.digest, stored.size)
        self._known[plain.digest] = blob  # the next platform may have the very same models
        return Layer(blob, plain.digest, comment)

    def _reuse(self, diff_id: str) -> Blob | None:
        """A layer with the same content: of another platform, or of the older layout if its bytes are what they were."""
        known = self._known.get(diff_id)
        if known is None:
            return None
        target = self.root / blob_path(known.digest)
        if not target.exists() and self._before is not None:
            source = self._before / blob_path(known.digest)
            if not source.is_file() or f"sha256:{archive.file_sha256(source)}" != known.digest:
                return None
            archive.copy_file(source, target)
        return known

    def _json(self, media: str, value: object) -> Blob:
        data = _dump(value)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        (self.root / blob_path(digest)).write_bytes(data)
        return Blob(media, digest, len(data))


class _Hashing:
    """The writing half of a file that hashes and counts what passes through to ``sink`` (or nowhere)."""

    def __init__(self, sink: IO[bytes] | gzip.GzipFile | None = None) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        if self._sink is not None:
            self._sink.write(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is held back here."""


def _config(arch: str, layers: Sequence[Layer], settings: Settings, mtime: int) -> dict[str, object]:
    created = datetime.fromtimestamp(mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    inner: dict[str, object] = {
        "User": settings.user,
        **({"ExposedPorts": {f"{settings.port}/tcp": {}}} if settings.port else {}),
        "Env": list(settings.env),
        "Entrypoint": list(settings.entrypoint),
        "WorkingDir": "/",
        "Labels": dict(settings.labels),
        "StopSignal": "SIGTERM",
    }
    if settings.health:
        nanoseconds = 10**9
        inner["Healthcheck"] = {
            "Test": ["CMD", *settings.health],
            "Interval": 30 * nanoseconds,
            "Timeout": 5 * nanoseconds,
            "StartPeriod": 10 * nanoseconds,
            "Retries": 3,
        }
    return {
        **_platform(arch),
        "created": created,
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": "lsbuild", "comment": layer.comment} for layer in layers],
    }


def _platform(arch: str) -> dict[str, str]:
    return {"architecture": arch, "os": "linux", **({"variant": "v8"} if arch == "arm64" else {})}


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _known_layers(root: Path) -> dict[str, Blob]:
    """diff_id -> blob of every layer of an older layout; empty when it cannot be read."""
    try:
        return {diff_id: blob for image in images(root) for blob, diff_id in image.layers}
    except VerifyError:
        return {}
