"""``oci://HOST/NAME@sha256:HEX#linux/ARCH``: one platform's image, from a registry; or ``oci:./DIR``, ``oci:./FILE.tar``.

DIR is an image layout, FILE.tar a docker-archive. The files of the source are ``manifest.json``, ``config.json`` and
``layers/NNN``; its revision is the digest of the platform's manifest. What a registry gives is named by a digest, so two
builds get the same bytes; logins are those of docker and podman.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lsbuild.api import Source
from lsbuild.distribution import credentials, reference
from lsbuild.distribution.client import Client, Host
from lsbuild.distribution.errors import told_as
from lsbuild.distribution.known import Known
from lsbuild.distribution.repository import DOCKER_LIST, Repository
from lsbuild.errors import SourceError
from lsbuild.packing.oci_read import INDEX, LAYER, MANIFEST, Blob, blob_path
from lsbuild.sources.base import FetchContext

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAR = "application/vnd.oci.image.layer.v1.tar"
_MEDIA = {
    LAYER: LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER,
    _TAR: _TAR,
    "application/vnd.docker.image.rootfs.diff.tar": _TAR,
    f"{_TAR}+zstd": f"{_TAR}+zstd",
}
"""Media types of layers -> those that we write; others (foreign, encrypted) are refused."""
_INDEXES = (INDEX, DOCKER_LIST)
_LARGEST_TEXT = 16 << 20

Read = Callable[[Blob], bytes]
Keep = Callable[[Blob], Path]


@dataclass(frozen=True, slots=True)
class _Image:
    """A platform's image before its layers are here. ``keep`` has a layer as a blob of the cache."""

    digest: str
    manifest: Mapping[str, Any]
    config: bytes
    keep: Keep


def fetch(rest: str, context: FetchContext) -> Source:
    """The image for the platform in the fragment. SourceError says what is wrong with it, or why it cannot be had."""
    text, _, platform = rest.partition("#")
    arch = platform.removeprefix("linux/")
    # What lies beside the spec may have changed since it was locked; what a digest names has not.
    if not _is_local(text) and context.pinned and all(context.blob(file.sha256) for file in context.pinned):
        return Source(context.uri, context.tree({file.path: file.sha256 for file in context.pinned}), context.revision)
    with _found(text, arch, context) as image:
        return _source(image, context)


@contextmanager
def _found(text: str, arch: str, context: FetchContext) -> Iterator[_Image]:
    if _is_local(text):
        place, _, digest = text.partition("@")
        path = context.root / Path(place).expanduser()
        _require_digest(digest, context)
        if path.is_dir():
            yield _layout(path, digest, arch, context)
        elif path.is_file():
            with _archive(path, digest, arch, context) as image:
                yield image
        else:
            raise SourceError(
                "there is no such image", where=context.uri, hint="name an image layout or a docker-archive"
            )
        return
    if context.offline:
        raise context.missing("the image is")
    with told_as(SourceError, context.uri):
        named = reference.parse(text)
        host = Host(named.server, credentials.find(named.host, os.environ))
        with Client(host) as client:
            yield _registry(client, named, arch, context)


def _is_local(text: str) -> bool:
    return text.startswith((".", "/", "~"))


def _require_digest(digest: str, context: FetchContext) -> None:
    if digest and not _DIGEST.fullmatch(digest):
        raise SourceError(
            f"{digest!r} is no digest", where=context.uri, hint="write @sha256: and 64 hexadecimal digits"
        )


def _registry(client: Client, named: reference.Reference, arch: str, context: FetchContext) -> _Image:
    if not named.digest:
        raise SourceError(
            "has no digest, and a tag means another image tomorrow",
            where=context.uri,
            hint=f"write {named.repository}@sha256:HEX; `skopeo inspect docker://{named}` prints the digest",
        )
    repository = Repository(client, named.name, "pull")

    def read(blob: Blob) -> bytes:
        found = repository.manifest(blob.digest)
        if found is None:
            raise SourceError(f"{client.host.name} has no {blob.digest} in {named.name}", where=context.uri)
        return found[1]

    def keep(blob: Blob) -> Path:
        there = context.blob(blob.digest.removeprefix("sha256:"))
        if there is not None:
            return there
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "blob")
            with place.open("w+b") as sink:
                repository.get_blob(blob, sink, lambda done: context.progress(done, blob.size, "downloading the base"))
            return context.add(place, blob.digest.removeprefix("sha256:"))

    manifest = _platform(Blob("", named.digest, 0), read, arch, context)
    image = _image(manifest, lambda blob: keep(blob).read_bytes(), keep, arch, context)
    Known(context.cache, client.host.name).remember((each["digest"] for each in image.manifest["layers"]), named.name)
    return image


def _layout(path: Path, digest: str, arch: str, context: FetchContext) -> _Image:
    def read(blob: Blob) -> bytes:
        data = _blob(path, blob, context).read_bytes()
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
            raise SourceError(f"{blob.digest} does not have the content it is named after", where=context.uri)
        return data

    def keep(blob: Blob) -> Path:
        return context.add(_blob(path, blob, context), blob.digest.removeprefix("sha256:"))

    if not digest:
        try:
            listed = json.loads((path / "index.json").read_bytes())["manifests"]
            digests = [each["digest"] for each in listed]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"is no image layout: {error}", where=context.uri) from error
        if len(digests) != 1:
            raise SourceError(
                f"the layout holds {len(digests)} images",
                where=context.uri,
                hint="choose one with @sha256:HEX of index.json",
            )
        digest = digests[0]
    return _image(_platform(Blob("", digest, 0), read, arch, context), read, keep, arch, context)


def _blob(path: Path, blob: Blob, context: FetchContext) -> Path:
    place = path / blob_path(blob.digest)
    if not place.is_file():
        raise SourceError(f"the layout has no {blob.digest}", where=context.uri)
    return place


def _platform(top: Blob, read: Read, arch: str, context: FetchContext) -> tuple[str, bytes]:
    """(digest, bytes) of the manifest for ``arch``, through indexes."""
    data = read(top)
    value = _json(data, context)
    if "manifests" not in value:
        return top.digest, data
    offered = [each for each in value["manifests"] if each.get("platform", {}).get("os") == "linux"]
    fitting = next((each for each in offered if each["platform"].get("architecture") == arch), None)
    if fitting is None:
        if len(value["manifests"]) == 1 and not value["manifests"][0].get("platform"):
            return _platform(Blob("", value["manifests"][0]["digest"], 0), read, arch, context)
        names = ", ".join(sorted(f"linux/{each['platform'].get('architecture')}" for each in offered)) or "nothing"
        raise SourceError(
            f"the image is for {names}, not for linux/{arch}",
            where=context.uri,
            hint="take another base, or set targets.container.arch to what it has",
        )
    return _platform(Blob("", fitting["digest"], 0), read, arch, context)


def _image(found: tuple[str, bytes], read: Read, keep: Keep, arch: str, context: FetchContext) -> _Image:
    digest, data = found
    manifest = _json(data, context)
    if "layers" not in manifest or "config" not in manifest:
        raise SourceError(f"{digest} is no manifest of an image", where=context.uri)
    config = read(_described(manifest["config"]))
    _require_arch(_json(config, context), arch, context)
    return _Image(digest, manifest, config, keep)


def _require_arch(config: Mapping[str, Any], arch: str, context: FetchContext) -> None:
    platform = f"{config.get('os')}/{config.get('architecture')}"
    if platform != f"linux/{arch}":
        raise SourceError(
            f"the image is for {platform}, not for linux/{arch}", where=context.uri, hint="take another base"
        )


@contextmanager
def _archive(path: Path, digest: str, arch: str, context: FetchContext) -> Iterator[_Image]:
    """A docker-archive; its digest is that of its configuration, which Docker calls the image's id."""
    try:
        with tarfile.open(path) as tar:
            entries = json.loads(_member(tar, "manifest.json").read(_LARGEST_TEXT))
            if len(entries) != 1:
                raise SourceError(
                    f"the archive holds {len(entries)} images", where=context.uri, hint="save one image alone"
                )
            config = _member(tar, entries[0]["Config"]).read(_LARGEST_TEXT)
            found = f"sha256:{hashlib.sha256(config).hexdigest()}"
            if digest and digest != found:
                raise SourceError(f"the image is {found}, not {digest}", where=context.uri)
            _require_arch(_json(config, context), arch, context)
            files = {}
            for name in entries[0]["Layers"]:
                blob = context.add(_member(tar, name))
                files[f"sha256:{blob.name}"] = blob
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as error:
        raise SourceError(f"is no docker-archive: {error}", where=context.uri) from error
    layers = [
        {"mediaType": _sniffed(place), "digest": name, "size": place.stat().st_size} for name, place in files.items()
    ]
    yield _Image(found, {"layers": layers}, config, lambda blob: files[blob.digest])


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(f"{name} is no file")
    return stream


def _sniffed(path: Path) -> str:
    with path.open("rb") as stream:
        return LAYER if stream.read(2) == b"\x1f\x8b" else _TAR


def _source(image: _Image, context: FetchContext) -> Source:
    layers = [_described(each) for each in image.manifest["layers"]]
    for blob in layers:
        if blob.media not in _MEDIA:
            raise SourceError(f"has a layer of type {blob.media}, which cannot be shipped", where=context.uri)
    if len(_json(image.config, context).get("rootfs", {}).get("diff_ids", ())) != len(layers):
        raise SourceError("its configuration and its manifest name different layers", where=context.uri)
    text = {
        "layers": [Blob(_MEDIA[blob.media], blob.digest, blob.size).as_json() for blob in layers],
        "mediaType": MANIFEST,
    }
    files = {
        "manifest.json": context.add(io.BytesIO(json.dumps(text, sort_keys=True).encode())).name,
        "config.json": context.add(io.BytesIO(image.config)).name,
        **{f"layers/{number:03}": image.keep(blob).name for number, blob in enumerate(layers)},
    }
    return Source(context.uri, context.tree(files), image.digest)


def _described(entry: Mapping[str, Any]) -> Blob:
    return Blob(str(entry.get("mediaType", "")), str(entry["digest"]), int(entry["size"]))


def _json(data: bytes, context: FetchContext) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise SourceError(f"holds something that is no JSON: {error}", where=context.uri) from error
    if not isinstance(value, dict):
        raise SourceError("holds something that is no manifest", where=context.uri)
    return value
