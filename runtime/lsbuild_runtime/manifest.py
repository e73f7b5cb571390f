"""THE format that builder and runtime share: ``manifest.json``, which names every service and every file of a bundle.

The reader owns the format. This module imports msgspec and nothing of ours, and it is the only module of the runtime
that the builder imports.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

SCHEMA = 1
"""Raised whenever an older runtime could misread a newer manifest."""

FILE_NAME = "manifest.json"


class ManifestError(Exception):
    """The manifest or a file it names is missing, damaged or of another schema."""


class FileEntry(Struct, frozen=True, kw_only=True):
    """One file of the bundle. ``path`` is relative, posix; ``size`` in bytes; ``part`` is model | index | wheels | app."""

    path: str
    sha256: str
    size: int
    part: str
    component: str = ""


class Service(Struct, frozen=True, kw_only=True):
    """One object of the spec that the runtime serves.

    ``api`` is the port it implements (``inference``, ``embeddings``, ``vector_io``, ``agents``), ``name`` the id clients
    use, ``entry`` a ``"module:attr"`` of the serve half, called as ``entry(service, root, host)`` on first use.
    ``path`` is the folder inside the bundle that holds its data ("" when it has none). ``needs`` names other services
    as ``"api/name"``. Values of ``config`` may be ``{"secret": "NAME"}`` or hold ``${env.X:=default}``: both are
    resolved when the service is opened, never at build.

    ``metadata`` is shown to clients. The runtime reads of it: ``sampling`` (defaults for temperature, top_p and top_k of
    this model), ``modalities`` (``["text", "image"]`` lets image parts through), ``accepts`` (names of request fields
    beyond OpenAI's that the provider honours, ``["*"]`` for all), ``provider_resource_id`` and ``cost`` of a shield (the
    cheaper is asked first). ``config`` of a shield may hold ``fail``: ``"open"``.
    """

    api: str
    name: str
    provider: str
    entry: str
    path: str = ""
    config: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    needs: tuple[str, ...] = ()


class Server(Struct, frozen=True, kw_only=True):
    """Where and how the artifact listens. ``body`` and ``queue`` bound what one client can cost: bytes and requests.

    ``upload`` is the largest body of an upload. ``prepare`` are services ("api/name") that are opened when the server
    starts, not by their first request.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    body: int = 1 << 20
    upload: int = 32 << 20
    concurrency: int = 4
    queue: int = 32
    deadline_s: float = 120.0
    prepare: tuple[str, ...] = ()


class Manifest(Struct, frozen=True, kw_only=True):
    """The whole bundle. ``platform`` is e.g. ``linux-x86_64-cp311``; ``build`` holds the hashes of spec and lock."""

    schema: int
    name: str
    lsbuild: str
    target: str
    platform: str
    services: tuple[Service, ...]
    server: Server
    files: tuple[FileEntry, ...]
    build: dict[str, Any] = {}


def to_json(manifest: Manifest) -> bytes:
    """Canonical bytes: sorted keys, two-space indent, a final newline. The same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def from_json(data: bytes) -> Manifest:
    """Parse and check the schema number; raises ManifestError with what to do."""
    try:
        number = msgspec.json.decode(data, type=dict[str, Any]).get("schema")
    except msgspec.MsgspecError as error:
        raise ManifestError(f"manifest.json is not readable ({error}); build the artifact again") from error
    if number != SCHEMA:
        raise ManifestError(
            f"manifest.json has schema {number!r}, this runtime reads {SCHEMA}; build the artifact again"
        )
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ManifestError(f"manifest.json is not valid ({error}); build the artifact again") from error


def read(root: Path) -> Manifest:
    """Read ``root/manifest.json``. The files it names are checked by ``check_files``."""
    try:
        return from_json((root / FILE_NAME).read_bytes())
    except OSError as error:
        raise ManifestError(f"{root / FILE_NAME}: {error.strerror}; is this the folder of an artifact?") from error


def check_files(root: Path, files: tuple[FileEntry, ...]) -> None:
    """Compare sizes and sha256 of ``files`` with the disk; raises ManifestError naming the first that differs."""
    for entry in files:
        path = root / entry.path
        try:
            size = path.stat().st_size
            if size != entry.size:
                raise ManifestError(
                    f"{entry.path}: {size} bytes, the manifest says {entry.size}; the artifact is damaged"
                )
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ManifestError(f"{entry.path}: {error.strerror}; the artifact is damaged") from error
        if digest != entry.sha256:
            raise ManifestError(
                f"{entry.path}: sha256 differs from the manifest; the artifact is damaged or was changed"
            )


def check_sizes(root: Path, files: tuple[FileEntry, ...]) -> None:
    """The same by sizes alone, where somebody else has compared the hashes just before and nobody can write since."""
    for entry in files:
        try:
            size = (root / entry.path).stat().st_size
        except OSError as error:
            raise ManifestError(f"{entry.path}: {error.strerror}; the artifact is damaged") from error
        if size != entry.size:
            raise ManifestError(f"{entry.path}: {size} bytes, the manifest says {entry.size}; the artifact is damaged")
