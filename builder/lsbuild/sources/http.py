"""``https://HOST/PATH`` and ``http://``: one file of a web server, the same bytes in every build or none.

Its hash is in the URI (``#sha256=HEX``), else in ``lsbuild.lock``, where the first build puts it. The hosts are the
spec's; proxies and certificates are those of the environment (HTTP_PROXY, NO_PROXY, SSL_CERT_FILE).
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit

from lsbuild import web
from lsbuild.api import Source
from lsbuild.errors import SourceError
from lsbuild.sources.base import FetchContext

if TYPE_CHECKING:  # most builds fetch from no web server
    import urllib3

LARGEST = 256 << 20
"""Bytes of one file."""
REDIRECTS = 5
CONNECT_S, READ_S = 15.0, 60.0
_PIN = re.compile(r"sha256=([0-9a-f]{64})")
_SUFFIXES: Mapping[str, str] = {
    "application/pdf": ".pdf",
    "application/x-ndjson": ".jsonl",
    "application/xhtml+xml": ".xhtml",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
}
"""What a file without a suffix is called after its Content-Type."""


def fetch(rest: str, context: FetchContext) -> Source:  # noqa: ARG001 - the shape of every fetcher
    """The file, named ``HOST/PATH``. SourceError for other bytes than those that are pinned."""
    url, _, fragment = context.uri.partition("#")
    pin = _pinned(fragment, context)
    locked = context.pinned[0] if context.pinned else None
    if locked is not None and pin is not None and pin != locked.sha256:
        locked = None  # the user wrote another hash since
    wanted = pin or (locked.sha256 if locked else None)
    blob = context.blob(wanted) if wanted and locked else None
    if blob is not None and locked is not None:
        return Source(context.uri, context.tree({locked.path: blob.name}))
    if context.offline:
        raise context.missing("this file is")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "body")
        kind = _download(url, place, context)
        blob = context.add(place, wanted)
    return Source(context.uri, context.tree({locked.path if locked else _name(url, kind): blob.name}))


def _pinned(fragment: str, context: FetchContext) -> str | None:
    match = _PIN.fullmatch(fragment)
    if fragment and match is None:
        raise SourceError(
            f"#{fragment} is no pin",
            where=context.uri,
            hint="Write #sha256= and 64 hexadecimal digits, or leave the fragment out.",
        )
    return match[1] if match else None


def _name(url: str, kind: str) -> str:
    """Host and path, with a suffix that says what it is; a query is told apart by its hash."""
    parts = urlsplit(url)
    path = PurePosixPath(posixpath.normpath(f"/{unquote(parts.path)}"))
    steps = [step for step in path.parts if step.strip("/")]
    name = "/".join([parts.hostname or "", *steps]) if steps else f"{parts.hostname}/index"
    stem, suffix = str(PurePosixPath(name).with_suffix("")) if steps else name, path.suffix if steps else ""
    if parts.query:
        stem += "-" + hashlib.sha256(parts.query.encode()).hexdigest()[:8]
    return stem + (suffix or _SUFFIXES.get(kind, ""))


def _download(url: str, place: Path, context: FetchContext) -> str:
    """Write the body at ``place`` and return its media type; follows redirects, but never from https to http."""
    import urllib3  # cold: most builds fetch from no web server

    timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
    for _ in range(REDIRECTS + 1):
        context.progress(0, 0, "downloading")
        try:
            response = web.pool(url, timeout).request(
                "GET",
                quote(url, safe="/:?=&%@+,;~!$'()*[]"),
                redirect=False,
                preload_content=False,
                retries=urllib3.Retry(total=2, redirect=0, backoff_factor=0.5),
            )
            with closing(response):
                target = response.get_redirect_location()
                if not target:
                    return _kept(response, place, context)
        except urllib3.exceptions.HTTPError as error:
            raise _failed(f"cannot be fetched: {web.reason(error)}", context) from error
        url = _followed(url, str(target), context)
    raise _failed(f"redirected more than {REDIRECTS} times", context)


def _kept(response: urllib3.BaseHTTPResponse, place: Path, context: FetchContext) -> str:
    if response.status != 200:
        raise _failed(f"the server answered {response.status}", context)
    total = response.length_remaining or 0
    size = 0
    with place.open("wb") as out:
        for piece in response.stream(1 << 18):
            size += len(piece)
            if size > LARGEST:
                raise SourceError(
                    f"larger than {LARGEST >> 20} MiB",
                    where=context.uri,
                    hint="Download it and name the file.",
                )
            out.write(piece)
            context.progress(min(size, total), total, "downloading")
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _followed(url: str, target: str, context: FetchContext) -> str:
    following = urljoin(url, target)
    scheme = urlsplit(following).scheme
    if scheme not in ("http", "https") or (url.startswith("https:") and scheme != "https"):
        raise _failed(f"redirects to {following}, which is less safe than what the spec names", context)
    return following


def _failed(what: str, context: FetchContext) -> SourceError:
    return SourceError(
        what, where=context.uri, hint="Check the address and the network; --offline uses what is cached."
    )
