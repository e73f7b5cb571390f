"""THE format of an update, which the builder writes and the device reads: what is signed, its envelope, how files are cut.

Files are one stream of bytes in the order of their paths, and parts are consecutive runs of that stream. So the sizes of
both say which bytes of which file a part holds. Pure; the standard library only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

SCHEMA = 1
"""Raised when an older device could misread a newer update; it refuses one it does not know."""
ENVELOPE = "update.json"
"""Name of the envelope in a folder of updates, and of the first member of a bundle."""
PARTS = "parts"
"""Name of the folder of parts beside it; each is called by the sha256 of its stored bytes."""
PAYLOAD_TYPE = "application/vnd.lsbuild.update+json"
PIECE = 1 << 20
"""A larger file is cut every so many bytes from its start. It belongs to the schema: devices cut what they have alike."""
GROUP = 256 << 10
"""Small files share a part until it has so many bytes."""
ENVELOPE_LIMIT = 32 << 20
"""Most bytes of an envelope that a device reads before it knows who signed it."""
_HEX = re.compile(r"[0-9a-f]{64}")
_MODES = (0o644, 0o755)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")


class FormatError(ValueError):
    """The bytes are not an update of this format."""


class File(NamedTuple):
    """One file of the new version. ``path`` is relative and posix, ``mode`` 0o644 or 0o755."""

    path: str
    sha256: str
    size: int
    mode: int


class Part(NamedTuple):
    """A run of the stream. ``name`` is the sha256 of its ``stored`` bytes, ``sha256`` that of the ``size`` bytes it holds.

    Where the two differ it is stored as xz, otherwise as it is.
    """

    name: str
    sha256: str
    size: int
    stored: int


class Question(NamedTuple):
    """What a new version is asked on trial: a request and the status it has to answer with."""

    method: str
    path: str
    body: Any
    status: int


class Update(NamedTuple):
    """What is signed.

    ``product``, ``target`` and ``platform`` are those of the artifact's manifest; ``content`` says what a slot holds:
    ``files`` (a bundle) or ``image`` (an OCI layout). ``version`` only ever rises; a device below ``min_version`` has to
    take a step between. ``spec`` is the hash of the spec it was compiled from, ``created`` a time in seconds. ``keys`` are
    the public keys to be trusted from then on; none leaves them as they are. ``health_s`` is how long a trial may last.
    """

    product: str
    target: str
    platform: str
    content: str
    version: int
    min_version: int
    created: int
    lsbuild: str
    spec: str
    health_s: int
    keys: tuple[str, ...]
    questions: tuple[Question, ...]
    files: tuple[File, ...]
    parts: tuple[Part, ...]


class Slice(NamedTuple):
    """Bytes ``start`` to ``stop`` of ``parts[part]``."""

    part: int
    start: int
    stop: int


class Envelope(NamedTuple):
    """What was signed, byte by byte, and who says to have done so: pairs of a key's id and a signature."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]


def to_json(update: Update) -> bytes:
    """Canonical: sorted keys, no blanks. The same update gives the same bytes."""
    value = {
        **update._asdict(),
        "schema": SCHEMA,
        "files": [list(file) for file in update.files],
        "parts": [list(part) for part in update.parts],
        "questions": [question._asdict() for question in update.questions],
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def from_json(data: bytes) -> Update:
    """Read what ``to_json`` wrote, and check that its parts make up its files. Raises FormatError."""
    try:
        value = json.loads(data)
        if value["schema"] != SCHEMA:
            raise FormatError(f"it has schema {value['schema']!r}, this device reads {SCHEMA}")
        update = Update(
            **{name: value[name] for name in ("product", "target", "platform", "content", "lsbuild", "spec")},
            **{name: value[name] for name in ("version", "min_version", "created", "health_s")},
            keys=tuple(value["keys"]),
            questions=tuple(Question(**question) for question in value["questions"]),
            files=tuple(File(*file) for file in value["files"]),
            parts=tuple(Part(*part) for part in value["parts"]),
        )
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"it is not readable: {error!r}") from None
    _check(update)
    return update


def digest(payload: bytes) -> str:
    """What names an update: the sha256 of what was signed."""
    return hashlib.sha256(payload).hexdigest()


def signed_bytes(payload: bytes) -> bytes:
    """What a key signs: DSSE's pre-authentication encoding, so that a signature of something else is none of this."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def wrap(payload: bytes, signatures: Iterable[tuple[str, bytes]]) -> bytes:
    """A DSSE envelope (github.com/secure-systems-lab/dsse) as JSON."""
    signed = [{"keyid": key, "sig": base64.b64encode(signature).decode()} for key, signature in signatures]
    value = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": signed}
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def unwrap(data: bytes) -> Envelope:
    """Open an envelope; who signed it is not looked at here. Raises FormatError."""
    try:
        value = json.loads(data)
        if value["payloadType"] != PAYLOAD_TYPE:
            raise FormatError(f"it holds {value['payloadType']!r}, not an update")
        signed = [(str(each["keyid"]), base64.b64decode(each["sig"], validate=True)) for each in value["signatures"]]
        return Envelope(base64.b64decode(value["payload"], validate=True), tuple(signed))
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise FormatError(f"its envelope is not readable: {error!r}") from None


def cut(files: Iterable[tuple[str, int]]) -> Iterator[int]:
    """Sizes of the parts for files (path, size) in order of their paths; each has 1 to PIECE bytes.

    A group of small files also ends after one in sixteen, chosen by its path: a new file moves no boundary but its own.
    """
    group = 0
    for path, size in files:
        if group and (size > PIECE or group + size > PIECE):
            yield group
            group = 0
        if size > PIECE:
            yield from (min(PIECE, size - start) for start in range(0, size, PIECE))
            continue
        group += size
        if group >= GROUP or (group and hashlib.sha256(path.encode()).digest()[0] < 16):
            yield group
            group = 0
    if group:
        yield group


def slices(update: Update) -> Iterator[tuple[File, tuple[Slice, ...]]]:
    """Each file with the parts that it is made of, in order."""
    index, used = 0, 0
    for file in update.files:
        found: list[Slice] = []
        left = file.size
        while left:
            take = min(left, update.parts[index].size - used)
            found.append(Slice(index, used, used + take))
            left, used = left - take, used + take
            if used == update.parts[index].size:
                index, used = index + 1, 0
        yield file, tuple(found)


def missing(update: Update, files: Collection[str], pieces: Collection[str]) -> tuple[Part, ...]:
    """The parts that one needs who has files and pieces of large files with these sha256; each once."""
    wanted: dict[str, Part] = {}
    for file, needed in slices(update):
        if file.sha256 not in files:
            for each in needed:
                part = update.parts[each.part]
                if part.sha256 not in pieces:
                    wanted[part.name] = part
    return tuple(wanted.values())


def held(update: Update) -> tuple[set[str], set[str]]:
    """What somebody has who has this version: sha256 of its files, and of the pieces of its large ones."""
    large = {each.part for file, needed in slices(update) if file.size > PIECE for each in needed}
    return {file.sha256 for file in update.files}, {update.parts[index].sha256 for index in large}


def _check(update: Update) -> None:
    texts = (update.product, update.target, update.platform, update.content, update.lsbuild, update.spec, *update.keys)
    numbers = (update.version, update.min_version, update.created, update.health_s)
    if not all(isinstance(text, str) for text in texts) or not all(_is_size(number) for number in numbers):
        raise FormatError("a field has a value of the wrong kind")
    if not _NAME.fullmatch(update.product) or update.version < 1 or update.content not in ("files", "image"):
        raise FormatError("its product, version or content is not one that there can be")
    for part in update.parts:
        sizes = _is_size(part.size) and _is_size(part.stored) and 0 < part.size <= PIECE and part.stored <= 2 * PIECE
        if not (sizes and _is_hash(part.name) and _is_hash(part.sha256)):
            raise FormatError(f"{part!r} is not a part")
    for question in update.questions:
        if not (
            isinstance(question.path, str) and question.path.startswith("/") and question.method in ("GET", "POST")
        ):
            raise FormatError(f"{question!r} is not a question")
    _check_files(update.files)
    if sum(file.size for file in update.files) != sum(part.size for part in update.parts):
        raise FormatError("its parts are not as large as its files together")


def _check_files(files: Sequence[File]) -> None:
    seen: set[str] = set()
    above: set[str] = set()
    for file in files:
        if not (isinstance(file.path, str) and _is_size(file.size) and _is_hash(file.sha256) and file.mode in _MODES):
            raise FormatError(f"{file!r} is not a file")
        names = file.path.split("/")
        if any(name in ("", ".", "..") for name in names) or "\0" in file.path or "\\" in file.path:
            raise FormatError(f"{file.path!r} is not a plain relative path")
        if file.path in seen:
            raise FormatError(f"{file.path!r} comes twice")
        seen.add(file.path)
        above |= {"/".join(names[:end]) for end in range(1, len(names))}
    if clash := seen & above:
        raise FormatError(f"{min(clash)!r} is a file and a folder")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None
