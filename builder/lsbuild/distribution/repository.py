"""One repository of a registry: blobs and manifests, each named by its digest and compared with it on the way.

Follows the OCI distribution specification 1.1. A blob goes up in pieces, so a broken connection costs one of them where the
registry keeps what it acknowledged; one that does not is begun again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin

from lsbuild.distribution.client import TRIES, Answer, Broken, Client
from lsbuild.distribution.errors import DistributionError
from lsbuild.distribution.upload import Lost, Progress, Upload
from lsbuild.packing.oci_read import INDEX, MANIFEST, Blob

PIECE = 16 << 20
"""Bytes of one piece of an upload, to begin with."""
SMALLEST_PIECE = 1 << 20
_BEGINNINGS = 6
"""How often one blob is begun."""
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_LARGEST_MANIFEST = 4 << 20


class Repository:
    """``name`` is the path in the registry (``team/assistant``). ``actions`` are ``pull`` or ``pull,push``."""

    def __init__(self, client: Client, name: str, actions: str) -> None:
        self.client = client
        self.name = name
        self._scopes: tuple[str, ...] = (f"repository:{name}:{actions}",)

    def has_blob(self, blob: Blob) -> bool:
        """Whether the registry has it here, whole."""
        answer = self.client.ask("HEAD", self._path(f"blobs/{blob.digest}"), self._scopes)
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise self.client.error(f"{blob.digest} cannot be looked up", answer)
        return int(answer.headers.get("Content-Length") or blob.size) == blob.size

    def mount(self, blob: Blob, origin: str) -> bool:
        """Have a blob of another repository of this registry here without sending it; False where that is not possible."""
        query = urlencode({"mount": blob.digest, "from": origin})
        scopes = (*self._scopes, f"repository:{origin}:pull")
        try:
            answer = self.client.ask("POST", f"{self._path('blobs/uploads/')}?{query}", scopes)
        except DistributionError:  # whoever may push here need not be able to read there
            return False
        if answer.status == 202:  # it began an upload instead, which nobody will end
            self._forget(answer)
        return answer.status == 201

    def put_blob(self, blob: Blob, file: Path, progress: Progress) -> None:
        """Send a blob. Raises DistributionError when the registry never takes it whole."""
        piece, said = PIECE, ""
        for attempt in range(_BEGINNINGS):
            upload = Upload(self.client, self._scopes, self._begin(), piece)
            try:
                upload.run(blob, file, progress)
                return
            except Lost as error:
                said = str(error)
            if self.has_blob(blob):  # the last answer was lost, not the blob
                return
            # Pieces small enough for one connection; or one, where the registry does not take pieces.
            piece = max(piece // 4, SMALLEST_PIECE) if upload.broke else max(blob.size, 1)
            self.client.pause(attempt)
        raise DistributionError(
            f"{blob.digest} ({blob.size / 1e6:.1f} MB) did not arrive in {_BEGINNINGS} attempts: {said}",
            where=f"{self.client.host.name}/{self.name}",
            hint="say it again: what has arrived is not sent twice",
        )

    def get_blob(self, blob: Blob, sink: IO[bytes], progress: Progress) -> None:
        """Write a blob to ``sink`` (seekable, empty); a broken connection is taken up where it ended. DistributionError."""
        digest, done, failures, said = hashlib.sha256(), 0, 0, ""
        while done < blob.size and failures < TRIES:
            resumed = {"Range": f"bytes={done}-"} if done else {}
            answer = self.client.ask("GET", self._path(f"blobs/{blob.digest}"), self._scopes, resumed, stream=True)
            if answer.stream is None:
                raise self.client.error(f"{blob.digest} cannot be had", answer)
            goes_on = answer.status == 206
            if done and not goes_on:
                digest, done = hashlib.sha256(), 0
                sink.seek(0)
                sink.truncate()
            before = done
            for data in _pieces(answer.stream):
                if isinstance(data, Exception):
                    said = str(data)
                    break
                done += len(data)
                if done > blob.size:
                    break
                digest.update(data)
                sink.write(data)
                progress(done)
            answer.stream.close()
            if done < blob.size:
                failures = 0 if goes_on and done > before else failures + 1
                self.client.pause(failures)
        if done != blob.size or f"sha256:{digest.hexdigest()}" != blob.digest:
            told = said or "its bytes are others"
            raise DistributionError(
                f"{blob.digest} did not come whole: {told}", where=f"{self.client.host.name}/{self.name}"
            )

    def manifest(self, reference: str) -> tuple[Blob, bytes] | None:
        """A manifest or index by tag or digest: its descriptor and its bytes; None when there is none."""
        answer = self.client.ask("GET", self._path(f"manifests/{reference}"), self._scopes, {"Accept": _ACCEPT})
        if answer.status == 404:
            return None
        if answer.status != 200 or len(answer.text) >= _LARGEST_MANIFEST:
            raise self.client.error(f"the manifest {reference} cannot be read", answer)
        digest = f"sha256:{hashlib.sha256(answer.text).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise DistributionError(f"{self.client.host.name} gave {digest} for {reference}")
        return Blob(_media(answer), digest, len(answer.text)), answer.text

    def put_manifest(self, reference: str, blob: Blob, data: bytes) -> None:
        """Store a manifest under a tag or its digest."""
        kind = {"Content-Type": blob.media}
        answer = self.client.ask("PUT", self._path(f"manifests/{reference}"), self._scopes, kind, lambda: data)
        if answer.status not in (200, 201, 202):
            raise self.client.error(f"the manifest {reference} is refused", answer)
        told = answer.headers.get("Docker-Content-Digest") or blob.digest
        if told != blob.digest:
            raise DistributionError(f"{self.client.host.name} stored {told} where {blob.digest} was sent")

    def _begin(self) -> Answer:
        answer = self.client.ask("POST", self._path("blobs/uploads/"), self._scopes, {"Content-Length": "0"})
        if answer.status != 202 or not answer.headers.get("Location"):
            raise self.client.error("the upload is refused", answer)
        return answer

    def _path(self, rest: str) -> str:
        return f"/v2/{self.name}/{rest}"

    def _forget(self, begun: Answer) -> None:
        place = urljoin(begun.url, begun.headers.get("Location") or "")
        self.client.ask("DELETE", place, self._scopes)


def _pieces(stream: Any) -> Any:
    """The body in blocks; an error of the connection is the last of them."""
    import urllib3

    try:
        yield from stream.stream(1 << 18)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        yield Broken(str(error))


def _media(answer: Answer) -> str:
    """The media type that the manifest itself says, or else its header."""
    try:
        inside = json.loads(answer.text).get("mediaType", "")
    except (ValueError, AttributeError) as error:
        raise DistributionError(f"{answer.url} is no manifest") from error
    return str(inside or (answer.headers.get("Content-Type") or "").partition(";")[0].strip())
