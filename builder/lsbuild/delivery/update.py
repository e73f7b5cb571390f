"""Makes a signed update of an artifact: cuts its files into parts, and writes those that devices lack, with one envelope.

    ARTIFACT --target.slots--> files --cut--> parts --sign--> envelope --> X.lsu, or a folder for a web server

The same artifact, version, key and SOURCE_DATE_EPOCH give the same bytes. How a device takes it is the runtime's affair.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from lsbuild import inspection
from lsbuild.api import Manifest, Slot, Updates
from lsbuild.delivery import smoke
from lsbuild.delivery.signing import SigningKey
from lsbuild.errors import TargetError, VerifyError
from lsbuild.packing import archive
from lsbuild.packing.archive import Member
from lsbuild_runtime.updates import format as formats
from lsbuild_runtime.updates.format import ENVELOPE, PARTS, File, Part, Update

_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": formats.PIECE}]
"""No part is larger than the dictionary, so a device unpacks it in 2 MB of memory. Preset 3 takes a third of the time of 6 for
9 % more bytes (24 MB of numpy)."""
_WORTH = 0.97
"""A part is stored as it is unless xz saves more than this leaves: weights do not get smaller."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made. ``platform`` is needed where the artifact has several. ``minimum`` is the version that a device
    has to have, ``keys`` are trusted from then on.

    ``before`` are earlier updates: their parts are left out, and a device needs one of those versions.
    """

    artifact: Path
    version: int
    platform: str = ""
    minimum: int = 0
    health_s: int = 300
    keys: tuple[str, ...] = ()
    before: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """What was written: ``sent`` parts of ``total``, in stored bytes; ``size`` of the file, or of what a folder gained."""

    path: Path
    update: Update
    digest: str
    sent: int
    total: int
    size: int
    key: str

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "path": str(self.path),
            "product": self.update.product,
            "target": self.update.target,
            "platform": self.update.platform,
            "version": self.update.version,
            "digest": self.digest,
            "size": self.size,
            "parts": {"sent": self.sent, "total": self.total},
            "signed_by": self.key,
        }

    def to_text(self) -> str:
        """For people."""
        update = self.update
        return (
            f"{self.path}: version {update.version} of {update.product} for {update.platform}, {self.size / 1e6:.1f} MB\n"
            f"parts     {self.sent / 1e6:.1f} of {self.total / 1e6:.1f} MB\n"
            f"signed by {self.key}"
        )


def make(order: Order, key: SigningKey, out: Path, say: Callable[[str], None]) -> Made:
    """Write the update to ``out``: a folder where that is one, else a new file. Raises VerifyError, TargetError."""
    _require_free(out)
    with TemporaryDirectory(prefix="lsbuild-update-") as scratch:
        slot = _slot(order.artifact, order.platform, Path(scratch))
        say(f"{slot.manifest.name}: reading {len(slot.members)} files")
        store = _Store(Path(scratch, "stored"), _known(out, order.before))
        update = _update(order, slot, *_cut(slot.members, store))
        sent = _sent(update, order.before)
        if not all(store.has(part, out) for part in sent):
            # Bytes that are alike and were cut into files in another way: somebody has to get them after all.
            store = _Store(Path(scratch, "all"), {})
            update = _update(order, slot, *_cut(slot.members, store))
            sent = _sent(update, order.before)
        payload = formats.to_json(update)
        envelope = key.envelope(payload)
        size = (_publish if out.is_dir() else _bundle)(out, envelope, sent, store)
    total = sum({part.name: part.stored for part in update.parts}.values())
    return Made(out, update, formats.digest(payload), sum(part.stored for part in sent), total, size, key.id)


def read(path: Path) -> Update:
    """The update in a bundle or a folder; who signed it is not looked at. Raises VerifyError."""
    from lsbuild_runtime.updates import sources
    from lsbuild_runtime.updates.errors import UpdateError

    try:
        return formats.from_json(formats.unwrap(sources.find(str(path)).envelope()).payload)
    except (UpdateError, formats.FormatError) as error:
        raise VerifyError(f"is not an update: {error}", where=str(path)) from error


def next_version(out: Path, before: Iterable[Path]) -> int:
    """One more than what a folder of updates has now, and than the updates ``before``; 1 where there are none."""
    known = [out] if (out / ENVELOPE).is_file() else []
    return max((read(path).version for path in (*known, *before)), default=0) + 1


def _slot(artifact: Path, platform: str, scratch: Path) -> Slot:
    target = inspection.inspect(artifact).target
    if not hasattr(target, "slots"):
        raise TargetError(
            f"artifacts of target {target.name} are not updated this way",
            where=str(artifact),
            hint="docs/updates.md says which are",
        )
    folder = scratch / "artifact"
    folder.mkdir()
    found = cast("Updates", target).slots(artifact, folder)
    wanted = [slot for slot in found if platform in ("", slot.manifest.platform)]
    if len(wanted) != 1:
        there = ", ".join(slot.manifest.platform for slot in found)
        what = f"is not for {platform}" if platform else "is for several platforms, and an update is for one"
        raise TargetError(f"{what}: it has {there}", where=str(artifact), hint="choose one with --platform")
    return wanted[0]


def _update(order: Order, slot: Slot, files: Sequence[File], parts: Sequence[Part]) -> Update:
    manifest: Manifest = slot.manifest
    if order.version < 1 or order.minimum >= order.version:
        raise TargetError(
            f"version {order.version} with a minimum of {order.minimum} cannot be",
            hint="versions count from 1, and a device has to have less than what it gets",
        )
    return Update(
        product=manifest.name,
        target=manifest.target,
        platform=manifest.platform,
        content=slot.content,
        version=order.version,
        min_version=order.minimum,
        created=archive.source_date_epoch(),
        lsbuild=manifest.lsbuild,
        spec=str(manifest.build.get("spec", "")),
        health_s=order.health_s,
        keys=order.keys,
        questions=smoke.questions(manifest),
        files=tuple(files),
        parts=tuple(parts),
    )


class _Store:
    """The stored bytes of parts, in a folder, each once; those of ``known`` (by the sha256 of what they hold) lie elsewhere."""

    def __init__(self, folder: Path, known: Mapping[str, Part]) -> None:
        self._folder = folder
        self._known = known
        folder.mkdir()

    def keep(self, data: bytes) -> Part:
        name = _sha256(data)
        if name in self._known:
            return self._known[name]
        stored = _stored(data)
        part = Part(_sha256(stored), name, len(data), len(stored))
        path = self.path(part)
        if not path.exists():
            path.write_bytes(stored)
        return part

    def has(self, part: Part, out: Path) -> bool:
        return self.path(part).is_file() or (out / PARTS / part.name).is_file()

    def path(self, part: Part) -> Path:
        return self._folder / part.name


def _known(out: Path, before: Sequence[Path]) -> dict[str, Part]:
    """Parts that are not sent, so that nobody has to compress them again: every earlier version has them, or the folder."""
    older = [{part.sha256: part for part in read(path).parts} for path in before]
    found = {name: part for name, part in older[0].items() if all(name in each for each in older)} if older else {}
    if (out / ENVELOPE).is_file():
        found |= {part.sha256: part for part in read(out).parts if (out / PARTS / part.name).is_file()}
    return found


def _cut(members: Iterable[Member], store: _Store) -> tuple[list[File], list[Part]]:
    """The files in order of their paths, and the parts that their bytes make."""
    ordered = sorted(members, key=lambda member: member.path)
    archive.check_paths(member.path for member in ordered)
    files = [_file(member) for member in ordered]
    stream = _Stream(ordered)
    return files, [store.keep(stream.read(size)) for size in formats.cut((file.path, file.size) for file in files)]


class _Stream:
    """The bytes of all files, one after the other."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._chunks = _chunks(members)
        self._left = b""

    def read(self, size: int) -> bytes:
        gathered = io.BytesIO()
        while (wanted := size - gathered.tell()) > 0:
            data = self._left or next(self._chunks)
            gathered.write(data[:wanted])
            self._left = data[wanted:]
        return gathered.getvalue()


def _chunks(members: Iterable[Member]) -> Iterator[bytes]:
    for member in members:
        if isinstance(member.content, bytes):
            yield member.content
        elif member.content is not None:
            with member.content.open("rb") as stream:
                while data := stream.read(formats.PIECE):
                    yield data


def _file(member: Member) -> File:
    mode = 0o755 if member.mode & 0o100 else 0o644
    if isinstance(member.content, bytes):
        return File(member.path, _sha256(member.content), len(member.content), mode)
    if member.content is None:
        raise TargetError(f"{member.path!r} is not a file", hint="an update holds files alone")
    return File(member.path, archive.file_sha256(member.content), member.content.stat().st_size, mode)


def _sent(update: Update, before: Iterable[Path]) -> tuple[Part, ...]:
    """The parts that a device lacks which has any one of the versions ``before``; all of them when none is named."""
    older = [read(path) for path in before]
    if not older:
        return formats.missing(update, (), ())
    wanted: dict[str, Part] = {}
    for path, each in zip(before, older, strict=True):
        if (each.product, each.platform) != (update.product, update.platform):
            raise TargetError(f"is of {each.product} for {each.platform}, not of {update.product}", where=str(path))
        wanted |= {part.name: part for part in formats.missing(update, *formats.held(each))}
    return tuple(wanted.values())


def _require_free(out: Path) -> None:
    if out.is_file():
        raise TargetError("there is a file already", where=str(out), hint="name another --out, or remove it")
    if not out.parent.is_dir():
        raise TargetError("its folder does not exist", where=str(out))


def _bundle(out: Path, envelope: bytes, parts: Sequence[Part], store: _Store) -> int:
    members = [Member(ENVELOPE, envelope), *(Member(f"{PARTS}/{part.name}", store.path(part)) for part in parts)]
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("wb") as stream:
        archive.write_tar(stream, members, archive.source_date_epoch())
    partial.replace(out)
    return out.stat().st_size


def _publish(out: Path, envelope: bytes, parts: Sequence[Part], store: _Store) -> int:
    """Add to a folder that devices may be reading from: parts first, the envelope last, each in one step."""
    (out / PARTS).mkdir(exist_ok=True)
    gained = 0
    for part in parts:
        place = out / PARTS / part.name
        if not place.is_file():
            partial = place.with_name(f".{part.name}.partial")
            shutil.copyfile(store.path(part), partial)
            partial.replace(place)
            gained += part.stored
    partial = out / f".{ENVELOPE}.partial"
    partial.write_bytes(envelope)
    os.replace(partial, out / ENVELOPE)  # noqa: PTH105
    return gained + len(envelope)


def _stored(data: bytes) -> bytes:
    """xz where that is worth the time of the device. Deflate says in a hundredth of the time when it is not."""
    if len(zlib.compress(data, 1)) > len(data) * _WORTH:
        return data
    packed = lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=_XZ)
    return packed if len(packed) < len(data) * _WORTH else data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
