"""Finds secrets in a bundle before it is packed: private keys and tokens whose form tells what they are; it changes nothing.

It is small and honest: a password that looks like a word is not found, and neither is a token that a page of a database
cuts in two. Weights and public wheels are not read. What is no secret is marked by its fingerprint in the spec.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lsbuild.api import Bundle, File
from lsbuild.errors import GateError
from lsbuild_runtime.manifest import FILE_NAME

_WEIGHTS = 8 << 20
"""Model files above this many bytes are weights."""
_LONGEST = 256
"""Bytes of a token that are looked at, from its first on."""
_SHOWN = 5
_RULES: Mapping[str, tuple[tuple[bytes, ...], bytes]] = {
    "a private key": (
        (b"-----BEGIN ",),
        rb"-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED )?PRIVATE KEY-----(?:\\n|\s)+[A-Za-z0-9+/=]{16}",
    ),
    "an access key of AWS": ((b"AKIA", b"ASIA"), rb"A[KS]IA[A-Z2-7]{16}(?![A-Za-z0-9])"),
    "a token of GitHub": (
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60}",
    ),
    "a token of GitLab": ((b"glpat-",), rb"glpat-[A-Za-z0-9_-]{20}"),
    "a token of Slack": ((b"xox",), rb"xox[abeoprs]-[0-9]{6,}-[A-Za-z0-9-]{10}"),
    "an API key": ((b"sk-",), rb"sk-(?:proj-|svcacct-|ant-[a-z0-9]+-|or-v1-)?(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_]{20}"),
    "a token of Hugging Face": ((b"hf_",), rb"hf_[A-Za-z]{34}(?![A-Za-z])"),
    "an API key of Google": ((b"AIza",), rb"AIza[A-Za-z0-9_-]{35}"),
    "a live key of Stripe": ((b"sk_live_", b"rk_live_"), rb"[sr]k_live_[A-Za-z0-9]{16}"),
    "a token of npm": ((b"npm_",), rb"npm_[A-Za-z0-9]{36}"),
    "a token of PyPI": ((b"pypi-AgEI",), rb"pypi-AgEI[A-Za-z0-9_-]{50}"),
}
_COMPILED = tuple((kind, starts, re.compile(pattern)) for kind, (starts, pattern) in _RULES.items())
_PASSWORD_URL = re.compile(rb"[a-z][a-z0-9+]*://[^/\s:@\"]+:([^/\s:@\"{}$]+)@")
_WORD = re.compile(rb"[A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class Leak:
    """One place that looks like a secret. ``where`` is ``path:line``, or ``path, byte N`` in a binary file."""

    where: str
    kind: str
    shown: str
    fingerprint: str


def check(bundle: Bundle, allowed: Collection[str]) -> None:
    """Raise GateError for what looks like a secret, unless its fingerprint is ``allowed``."""
    found = [leak for leak in scan(bundle.files) if leak.fingerprint not in allowed]
    if not found:
        return
    lines = [f"{leak.where}: {leak.kind}, {leak.shown}, fingerprint {leak.fingerprint}" for leak in found[:_SHOWN]]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    raise GateError(
        "the artifact would hold what looks like a secret: " + "; ".join([*lines, *more]),
        hint="Take it out; in the spec write {secret: NAME} instead. If it is none, add its fingerprint to not_secrets.",
    )


def scan(files: Collection[File]) -> Iterator[Leak]:
    """Everything that looks like a secret, by file and place."""
    for file in files:
        if not _is_read(file):
            continue
        with _bytes(file.content) as data:
            for at, kind, token in sorted(_tokens(data, with_urls=file.path == FILE_NAME)):
                shown = f"{token[:6].decode('ascii', 'replace').split()[0]}…"
                yield Leak(_where(file.path, data, at), kind, shown, hashlib.sha256(token).hexdigest()[:12])


def _is_read(file: File) -> bool:
    if file.part == "wheels" or file.path.endswith(".pyc"):
        return False
    return file.part != "model" or isinstance(file.content, bytes) or file.content.stat().st_size <= _WEIGHTS


def _tokens(data: bytes | mmap.mmap, *, with_urls: bool) -> Iterator[tuple[int, str, bytes]]:
    for kind, starts, pattern in _COMPILED:
        for start in starts:
            at = data.find(start)
            while at >= 0:
                whole = pattern.match(data[at : at + _LONGEST])
                if whole and not (at and _WORD.match(data[at - 1 : at])) and not whole[0].endswith(b"EXAMPLE"):
                    yield at, kind, whole[0]
                at = data.find(start, at + 1)
    if with_urls:
        for match in _PASSWORD_URL.finditer(data):
            yield match.start(1), "a password in a URL", match[1]


def _where(path: str, data: bytes | mmap.mmap, at: int) -> str:
    before = data[:at]
    if b"\0" in before[:4096]:
        return f"{path}, byte {at}"
    line = before.count(b"\n") + 1
    return f"{path}:{line}"


@contextmanager
def _bytes(content: Path | bytes) -> Iterator[bytes | mmap.mmap]:
    if isinstance(content, bytes):
        yield content
    elif content.stat().st_size == 0:
        yield b""
    else:
        with content.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped
