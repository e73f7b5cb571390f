"""Sends one blob in pieces, and finds out after a broken connection how far it came; beginning again is its caller's."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from lsbuild.distribution.client import TRIES, Answer, Broken, Client
from lsbuild.packing.oci_read import Blob

Progress = Callable[[int], None]
"""Told how many bytes of a blob have arrived so far."""


class Lost(Exception):
    """The registry cannot go on with this upload."""


class Upload:
    """One attempt to send a blob. ``broke`` tells whether a connection did."""

    def __init__(self, client: Client, scopes: tuple[str, ...], begun: Answer, piece: int) -> None:
        """``begun`` is the registry's answer that opened it, ``piece`` how many bytes are sent at once."""
        self._client = client
        self._scopes = scopes
        self._place = urljoin(begun.url, begun.headers.get("Location") or "")
        least = begun.headers.get("OCI-Chunk-Min-Length") or ""
        self._piece = max(piece, int(least)) if least.isdecimal() else piece
        self._done = 0
        self.broke = False

    def run(self, blob: Blob, file: Path, progress: Progress) -> None:
        """Send all of ``file``. Raises Lost when it has to be begun again, DistributionError for a login that is refused."""
        self._blob, self._file, self._progress = blob, file, progress
        failures = 0
        while self._done < self._blob.size and self._blob.size > self._piece:
            before = self._done
            self._send_piece(failures)
            failures = 0 if self._done > before else failures + 1
            if failures == TRIES:
                raise Lost("connections break before a piece is through")
            if self.broke:
                self._client.disconnect()
        self._finish()

    def _send_piece(self, attempt: int) -> None:
        size = min(self._piece, self._blob.size - self._done)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{self._done}-{self._done + size - 1}",
        }
        try:
            answer = self._client.once("PATCH", self._place, self._scopes, headers, self._part(size))
        except Broken:
            self.broke = True
            self._client.pause(attempt)
            self._where_we_are()
            return
        if answer.status == 202:
            self._arrived(answer, self._done + size)
        elif answer.status == 416 or answer.status >= 500 or answer.status == 429:
            self._client.pause(attempt, answer)
            self._where_we_are()
        else:
            self._end(answer)

    def _where_we_are(self) -> None:
        answer = self._client.ask("GET", self._place, self._scopes)
        if answer.status != 204:
            self._end(answer)
        self._arrived(answer, 0)

    def _arrived(self, answer: Answer, otherwise: int) -> None:
        """``Range: 0-99`` means 100 bytes; an upload without a byte has ``0-0`` or nothing."""
        match = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range") or "")
        self._done = int(match[1]) + 1 if match and int(match[1]) else otherwise
        self._place = urljoin(self._place, answer.headers.get("Location") or "")
        self._progress(self._done)

    def _finish(self) -> None:
        query = urlencode({"digest": self._blob.digest})
        place = f"{self._place}{'&' if urlsplit(self._place).query else '?'}{query}"
        left = self._blob.size - self._done
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(left)}
        try:
            answer = self._client.once("PUT", place, self._scopes, headers, self._part(left))
        except Broken as error:
            self.broke = True
            raise Lost(str(error)) from error
        if answer.status != 201:
            self._end(answer)
        self._progress(self._blob.size)

    def _end(self, answer: Answer) -> None:
        if answer.status in (401, 403):
            raise self._client.error("the upload is refused", answer)
        raise Lost(self._client.refused(answer))

    def _part(self, size: int) -> Callable[[], Any]:
        return lambda: _Part(self._file, self._done, size) if size else b""


class _Part(io.RawIOBase):
    """``size`` bytes of a file from ``start`` on."""

    def __init__(self, file: Path, start: int, size: int) -> None:
        self._stream = file.open("rb")
        self._stream.seek(start)
        self._left = size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the part goes."""
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()
