"""The client against a small registry that can be told to misbehave: what it keeps, refuses, delays and redirects."""

from __future__ import annotations

import hashlib
import http.server
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lsbuild.distribution import repository as repositories
from lsbuild.distribution.client import TRIES, Client, Host
from lsbuild.distribution.credentials import Login
from lsbuild.distribution.errors import DistributionError
from lsbuild.distribution.repository import Repository
from lsbuild.packing.oci_read import LAYER, Blob

PIECE = 1 << 20
ANN = Login("ann", "secret")


@dataclass
class Odd:
    """What the registry does. ``breaks`` are numbers of body bytes of one PATCH after which it ends the connection."""

    breaks: list[int] = field(default_factory=list)
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers that are given before anything else is looked at, in order."""
    pieces: bool = True
    elsewhere: str = ""
    """Where blobs really are."""
    challenge: str = ""
    cut: int = 0
    """Bytes of an answer after which the connection ends; 0 for never."""
    received: int = 0
    kept: bytearray = field(default_factory=bytearray)
    whole: bytes = b""
    asked: list[str] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    odd: Odd

    protocol_version = "HTTP/1.1"

    def _all(self) -> None:
        if self.path == "/v2/":  # whether it speaks http at all
            self._answer(200)
            return
        self.odd.asked.append(f"{self.command} {urlsplit(self.path).path}")
        self.odd.shown.append(self.headers.get("Authorization"))
        if self.odd.statuses:
            status, headers = self.odd.statuses.pop(0)
            self._body(1 << 30)
            self._answer(status, headers)
        elif self.odd.challenge and not self.headers.get("Authorization"):
            self._answer(401, {"WWW-Authenticate": self.odd.challenge})
        else:
            getattr(self, f"_{self.command.lower()}")()

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._all
        raise AttributeError(name)

    def _head(self) -> None:
        self._answer(404)

    def _get(self) -> None:
        if "/uploads/" in self.path:
            self._answer(204, {"Range": f"0-{max(len(self.odd.kept) - 1, 0)}"})
        elif self.odd.elsewhere:
            self._answer(307, {"Location": self.odd.elsewhere + self.path})
        else:
            self._answer(200, {}, self.odd.whole)

    def _post(self) -> None:
        self.odd.kept.clear()
        self._answer(202, {"Location": "/v2/a/blobs/uploads/1"})

    def _patch(self) -> None:
        match = re.fullmatch(r"(\d+)-(\d+)", self.headers.get("Content-Range") or "")
        if not self.odd.pieces:
            self._body(1 << 30)
            self._answer(405)
        elif match is None or int(match[1]) != len(self.odd.kept):
            self._body(1 << 30)
            self._answer(416, {"Range": f"0-{len(self.odd.kept) - 1}"})
        elif self.odd.breaks and self.odd.breaks[0] < int(self.headers["Content-Length"]):
            self.odd.kept += self._body(self.odd.breaks.pop(0))
            self.close_connection = True
        else:
            self.odd.kept += self._body(1 << 30)
            self._answer(202, {"Location": self.path, "Range": f"0-{len(self.odd.kept) - 1}"})

    def _put(self) -> None:
        self.odd.kept += self._body(1 << 30)
        wanted = parse_qs(urlsplit(self.path).query)["digest"][0]
        self.odd.whole = bytes(self.odd.kept)
        self._answer(201 if f"sha256:{hashlib.sha256(self.odd.whole).hexdigest()}" == wanted else 400)

    def _body(self, most: int) -> bytes:
        data = self.rfile.read(min(most, int(self.headers.get("Content-Length") or 0)))
        self.odd.received += len(data)
        return data

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.odd.cut and body:
            self.close_connection = True
            body = body[: self.odd.cut]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def odd_registry(odd: Odd) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OddHandler", (Handler,), {"odd": odd})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blob:
    """Three and a half pieces, in the file ``blob``."""
    monkeypatch.setattr(repositories, "PIECE", PIECE)
    data = random.Random(1).randbytes(7 * PIECE // 2)
    (tmp_path / "blob").write_bytes(data)
    return Blob(LAYER, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


@contextmanager
def visited(odd: Odd, waits: list[float] | None = None, login: Login | None = None) -> Iterator[Repository]:
    paused = waits if waits is not None else []
    with odd_registry(odd) as host, Client(Host(host, login, wait=paused.append)) as client:
        yield Repository(client, "a", "pull,push")


def test_pieces_go_up_one_after_the_other(tmp_path: Path, blob: Blob) -> None:
    odd, told = Odd(), []
    with visited(odd) as repository:
        repository.put_blob(blob, tmp_path / "blob", told.append)
    assert odd.whole == (tmp_path / "blob").read_bytes()
    assert [each.partition(" ")[0] for each in odd.asked] == ["POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]
    assert told == sorted(told)
    assert told[-1] == blob.size


def test_a_break_in_a_piece_is_taken_up_where_the_registry_stands(tmp_path: Path, blob: Blob) -> None:
    odd = Odd(breaks=[300_000, 5, 700_000])
    with visited(odd) as repository:
        repository.put_blob(blob, tmp_path / "blob", lambda _: None)
    assert odd.whole == (tmp_path / "blob").read_bytes()
    assert odd.received == blob.size, "nothing was sent twice"
    assert sum(each.startswith("POST") for each in odd.asked) == 1


def test_a_registry_that_takes_no_pieces_gets_it_in_one(tmp_path: Path, blob: Blob) -> None:
    odd = Odd(pieces=False)
    with visited(odd) as repository:
        repository.put_blob(blob, tmp_path / "blob", lambda _: None)
    assert odd.whole == (tmp_path / "blob").read_bytes()


def test_a_piece_that_is_out_of_step_is_set_right(tmp_path: Path, blob: Blob) -> None:
    odd, refusals = Odd(), [(416, {})]

    def progress(done: int) -> None:
        if done == PIECE and refusals:
            odd.statuses.append(refusals.pop())

    with visited(odd) as repository:
        repository.put_blob(blob, tmp_path / "blob", progress)
    assert not refusals
    assert odd.whole == (tmp_path / "blob").read_bytes()
    assert sum(each.startswith("POST") for each in odd.asked) == 1


def test_a_busy_registry_is_asked_again_when_it_says(tmp_path: Path, blob: Blob) -> None:
    waits: list[float] = []
    odd = Odd(statuses=[(429, {"Retry-After": "7"}), (503, {}), (502, {})])
    with visited(odd, waits) as repository:
        assert not repository.has_blob(blob)
    assert waits[0] == 7
    assert 1 <= waits[1] < waits[2] <= 2.5


def test_a_login_that_runs_out_in_the_middle_is_made_anew(tmp_path: Path, blob: Blob) -> None:
    expired = [(401, {"WWW-Authenticate": 'Basic realm="tests"'})]
    odd = Odd()

    def progress(done: int) -> None:
        if done == 2 * PIECE and expired:
            odd.statuses.append(expired.pop())

    with visited(odd, login=ANN) as repository:
        repository.put_blob(blob, tmp_path / "blob", progress)
    assert odd.whole == (tmp_path / "blob").read_bytes()
    assert sum(each.startswith("POST") for each in odd.asked) == 1
    assert odd.shown[-1] == ANN.basic


def test_patience_ends(blob: Blob) -> None:
    odd = Odd(statuses=[(503, {})] * 20)
    with visited(odd) as repository, pytest.raises(DistributionError, match="does not answer: 503"):
        repository.has_blob(blob)
    assert len(odd.asked) == TRIES


def test_a_login_is_not_taken_along_a_redirect(tmp_path: Path, blob: Blob) -> None:
    storage = Odd(whole=(tmp_path / "blob").read_bytes())
    with odd_registry(storage) as other:
        odd = Odd(challenge='Basic realm="tests"', elsewhere=f"http://{other}")
        with visited(odd, login=ANN) as repository, (tmp_path / "got").open("w+b") as sink:
            repository.get_blob(blob, sink, lambda _: None)
    assert odd.shown == [None, ANN.basic]
    assert storage.shown == [None]
    assert (tmp_path / "got").read_bytes() == (tmp_path / "blob").read_bytes()


def test_a_registry_that_always_begins_again_and_never_ends_is_given_up(tmp_path: Path, blob: Blob) -> None:
    odd = Odd(whole=(tmp_path / "blob").read_bytes(), cut=1000)
    with (
        visited(odd) as repository,
        (tmp_path / "got").open("w+b") as sink,
        pytest.raises(DistributionError, match="did not come whole"),
    ):
        repository.get_blob(blob, sink, lambda _: None)
    assert len(odd.asked) == TRIES


def test_other_bytes_than_were_asked_for_are_refused(tmp_path: Path, blob: Blob) -> None:
    odd = Odd(whole=bytes(blob.size))
    with (
        visited(odd) as repository,
        (tmp_path / "got").open("w+b") as sink,
        pytest.raises(DistributionError, match="did not come whole: its bytes are others"),
    ):
        repository.get_blob(blob, sink, lambda _: None)


@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        ('Bearer realm="http://tokens.example/token",service="s"', "which is not https"),
        ('Bearer realm="file:///etc/passwd",service="s"', "which is not https"),
        ("Bearer", "which is not https"),
        ("Negotiate", "signed in to by Negotiate"),
        ("", "signed in to by nothing that it names"),
    ],
)
def test_a_login_goes_nowhere_else(blob: Blob, challenge: str, said: str) -> None:
    odd = Odd(challenge=challenge) if challenge else Odd(statuses=[(401, {})] * 2)
    with visited(odd, login=ANN) as repository, pytest.raises(DistributionError, match=said):
        repository.has_blob(blob)
    assert set(odd.shown) == {None}
