"""Where an update comes from: a bundle (one file), a folder, or the same folder behind any static web server.

Nothing that is read here is trusted; who reads compares hashes with what was signed.
"""

from __future__ import annotations

import http.client
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from lsbuild_runtime.updates.errors import NotReached, NotTrusted
from lsbuild_runtime.updates.format import ENVELOPE, ENVELOPE_LIMIT, PARTS, Part

TIMEOUT_S = 30.0
_CHUNK = 64 << 10
_BLOCK = 512


class Stream(NamedTuple):
    """Bytes of a part from ``start`` on, which may be less than was asked for: a server need not know ranges."""

    start: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """Where envelope and parts are read from. Raises NotReached."""

    where: str

    def envelope(self) -> bytes:
        """The envelope of the newest update there."""
        ...

    def read(self, part: Part, start: int) -> Stream | None:
        """A part from byte ``start`` on; None when it is not there."""
        ...


def find(where: str) -> Source:
    """The source at a URL or a path. Raises NotReached."""
    if where.startswith(("http://", "https://")):
        return Web(where)
    path = Path(where)
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Bundle(path)
    raise NotReached(f"{where}: there is no such file, folder or http address")


class Folder:
    """``update.json`` and ``parts/``."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path

    def envelope(self) -> bytes:
        """See Source."""
        path = self._path / ENVELOPE
        try:
            with path.open("rb") as stream:
                return _bounded(stream.read(ENVELOPE_LIMIT + 1), str(path))
        except OSError as error:
            raise NotReached(f"{path}: {error.strerror}") from error

    def read(self, part: Part, start: int) -> Stream | None:
        """See Source."""
        path = self._path / PARTS / part.name
        return Stream(start, _range(path, start, part.stored - start)) if path.is_file() else None


class Bundle:
    """A tar with the members of such a folder, the envelope first; only plain files of it are looked at."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path
        self._members: dict[str, tuple[int, int]] = {}
        end = path.stat().st_size
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                if not any(block):
                    break
                name, size = self._header(block)
                at = stream.tell()
                if at + size > end:
                    raise NotTrusted(
                        f"{path} is truncated: {name} ends {at + size - end} bytes after it; copy it again"
                    )
                self._members[name] = at, size
                stream.seek(at + -(-size // _BLOCK) * _BLOCK)
            else:
                raise NotTrusted(f"{path} is truncated: it has no end; copy it again")

    def envelope(self) -> bytes:
        """See Source."""
        at, size = self._members.get(ENVELOPE, (0, 0))
        if not size:
            raise NotTrusted(f"{self._path} holds no {ENVELOPE}: it is not an update")
        return _bounded(b"".join(_range(self._path, at, min(size, ENVELOPE_LIMIT + 1))), str(self._path))

    def read(self, part: Part, start: int) -> Stream | None:
        """See Source."""
        at, size = self._members.get(f"{PARTS}/{part.name}", (0, -1))
        return Stream(start, _range(self._path, at + start, size - start)) if size == part.stored else None

    def _header(self, block: bytes) -> tuple[str, int]:
        # One block by itself: tarfile would follow extended headers of any size before a signature was seen.
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.TarError, ValueError) as error:
            raise NotTrusted(f"{self._path} is damaged, or not an update: {error}") from error
        if not info.isreg() or info.size < 0:
            raise NotTrusted(f"{self._path} holds {info.name!r}, which is no plain file: it is not an update")
        return info.name, info.size


class Web:
    """The folder behind a web server; a part that broke off goes on by a range, where the server knows them."""

    def __init__(self, url: str) -> None:
        self.where = url
        self._url = url.rstrip("/")

    def envelope(self) -> bytes:
        """See Source."""
        url = f"{self._url}/{ENVELOPE}"
        answer = self._open(url, 0)
        if answer is None:
            raise NotReached(f"{url}: not found; is this the folder that `lsbuild update make` wrote?")
        with answer:
            try:
                return _bounded(answer.read(ENVELOPE_LIMIT + 1), url)
            except (OSError, http.client.HTTPException) as error:
                raise NotReached(f"{url}: broke off: {error!r}") from error

    def read(self, part: Part, start: int) -> Stream | None:
        """See Source."""
        url = f"{self._url}/{PARTS}/{part.name}"
        answer = self._open(url, start)
        if answer is None:
            return None
        expected = f"bytes {start}-{part.stored - 1}/{part.stored}"
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "") == expected
        if answer.status == 206 and not resumed:
            answer.close()
            answer = self._open(url, 0)
        return Stream(start if resumed else 0, _body(answer, url)) if answer else None

    def _open(self, url: str, start: int) -> http.client.HTTPResponse | None:
        headers = {"User-Agent": "lsbuild-update"} | ({"Range": f"bytes={start}-"} if start else {})
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https alone come here
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
            return answer
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            if error.code == 416 and start:  # another part lies there now, and it is shorter
                return self._open(url, 0)
            raise NotReached(f"{url}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise NotReached(f"{url}: not reached: {reason}") from error


def _body(answer: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    with answer:
        try:
            while data := answer.read(_CHUNK):
                yield data
        except (OSError, http.client.HTTPException) as error:
            raise NotReached(f"{url}: broke off: {error!r}") from error


def _range(path: Path, start: int, size: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            while size > 0 and (data := stream.read(min(_CHUNK, size))):
                size -= len(data)
                yield data
    except OSError as error:
        raise NotReached(f"{path}: {error.strerror}") from error


def _bounded(data: bytes, where: str) -> bytes:
    if len(data) > ENVELOPE_LIMIT:
        raise NotTrusted(f"{where} has more than {ENVELOPE_LIMIT >> 20} MiB: it is not an update")
    return data
