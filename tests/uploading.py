"""What tests of uploads share: an application with a mutable store, forms as a browser sends them, and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lsbuild_runtime.app import App
from runtime_asking import Answer, asked
from small_stores import mutable_bundle, mutable_manifest

BOUNDARY = "----7b3f"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@contextmanager
def opened(folder: Path, clock: Callable[[], float] = time.time, **server: Any) -> Iterator[App]:
    """An application over ``folder/bundle`` with its state in ``folder/state``; its worker has stopped at the end."""
    bundle = folder / "bundle"
    if not bundle.exists():
        mutable_bundle(bundle)
    app = App(mutable_manifest(**server), bundle, state=folder / "state", clock=clock)
    try:
        yield app
    finally:
        app.close()


def part(name: str, data: bytes | str, filename: str | None = None) -> bytes:
    """One part of a form, as it is written."""
    named = "" if filename is None else f'; filename="{filename}"'
    body = data.encode() if isinstance(data, str) else data
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + body + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def upload(app: App, filename: str, text: bytes | str, purpose: str = "assistants", **fields: str) -> Answer:
    """POST /v1/files."""
    parts = [part(name, value) for name, value in {"purpose": purpose, **fields}.items()]
    return asked(app, "POST", "/v1/files", form(*parts, part("file", text, filename)), headers=FORM)


def uploaded(app: App, filename: str, text: bytes | str) -> str:
    """The id of a new file."""
    answer = upload(app, filename, text)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


def created(app: App, **body: Any) -> str:
    """The id of a new store."""
    answer = asked(app, "POST", "/v1/vector_stores", body)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


def attached(app: App, store: str, file: str, **body: Any) -> Mapping[str, Any]:
    """The document as it was queued."""
    answer = asked(app, "POST", f"/v1/vector_stores/{store}/files", {"file_id": file, **body})
    assert answer.status == 200, answer.body
    found: Mapping[str, Any] = answer.json
    return found


def settled(app: App, store: str, file: str, seconds: float = 20.0) -> Mapping[str, Any]:
    """The document as soon as it is not in progress any more."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = asked(app, "GET", f"/v1/vector_stores/{store}/files/{file}")
        assert answer.status == 200, answer.body
        found: Mapping[str, Any] = answer.json
        if found["status"] != "in_progress":
            return found
        time.sleep(0.01)
    raise AssertionError(f"{file} is still in progress")


def texts(app: App, store: str, query: str, **body: Any) -> list[str]:
    """The passages that a search finds."""
    answer = asked(app, "POST", f"/v1/vector_stores/{store}/search", {"query": query, **body})
    assert answer.status == 200, answer.body
    return [hit["content"][0]["text"] for hit in answer.json["data"]]
