"""How an update gets to a device: by file, folder and web server, whole and in parts, over links that break."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import TargetError, VerifyError
from lsbuild.delivery import signing
from lsbuild.delivery import update as updating
from lsbuild_runtime.updates import course, having, sources
from lsbuild_runtime.updates.errors import DoesNotFit, NotReached, NotTrusted
from lsbuild_runtime.updates.format import PIECE
from update_tools import WEIGHTS, Machine, make, tree, write_artifact

MakeUpdate = Callable[..., Path]


class Web:
    """A static web server that counts and can be unkind: it breaks off after ``breaks`` bytes of a body, ``times`` times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.breaks, self.times = 0, 0
        self.ranges = True
        self.requests: list[tuple[str, str]] = []
        self.sent = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range", "")
                web.requests.append((self.path, asked))
                path = web.folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                data = path.read_bytes()
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and web.ranges else 0
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                body = data[start:]
                if web.times and "/parts/" in self.path and len(body) > web.breaks:
                    web.times -= 1
                    body = body[: web.breaks]
                    self.close_connection = True
                web.sent += len(body)
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def web(make_update: MakeUpdate) -> Iterator[Web]:
    """Version 1 behind HTTP."""
    with Web(make_update(1, web=True)) as found:
        yield found


def test_over_http(machine: Machine, web: Web) -> None:
    assert machine.apply(web.url)
    assert machine.files() == tree("1")
    assert not machine.apply(web.url)


def test_a_link_that_breaks_goes_on_where_it_stopped(machine: Machine, web: Web, tmp_path: Path) -> None:
    """Twenty breaks in one part; no byte is sent twice."""
    artifact = write_artifact(tmp_path / "heavy", tree("2", bytes(reversed(WEIGHTS))))
    make(artifact, signing.load(tmp_path / "ota.key", ""), web.folder, 2)
    web.breaks, web.times = 50_000, 20
    assert machine.apply(web.url)
    assert machine.files() == tree("2", bytes(reversed(WEIGHTS)))
    assert web.times == 0
    resumed = [asked for _, asked in web.requests if asked]
    assert len(resumed) == 20
    stored = sum(path.stat().st_size for path in (web.folder / "parts").iterdir())
    assert web.sent <= stored + (web.folder / "update.json").stat().st_size


def test_a_server_without_ranges_sends_the_part_again(machine: Machine, web: Web, tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "heavy", tree("2", bytes(reversed(WEIGHTS))))
    make(artifact, signing.load(tmp_path / "ota.key", ""), web.folder, 2)
    web.ranges, web.breaks, web.times = False, 600_000, 2
    assert machine.apply(web.url)
    assert machine.files()["models/chat/model.bin"] == bytes(reversed(WEIGHTS))


def test_a_link_that_is_gone_is_told_and_what_came_is_kept(machine: Machine, web: Web) -> None:
    """Forty bytes of a part are there, and then nothing comes through any more."""
    found = course.check(machine.device, sources.find(web.url))
    assert found is not None
    parts = machine.place.incoming / "parts"
    parts.mkdir(parents=True)
    for part in found.update.parts:
        (parts / f"{part.name}.part").write_bytes((web.folder / "parts" / part.name).read_bytes()[:40])
    web.breaks, web.times = 0, 10**6
    with pytest.raises(NotReached, match="broke off after 40 of"):
        machine.apply(web.url)
    assert machine.state().committed.version == 0
    web.times = 0
    assert machine.apply(web.url)
    assert machine.files() == tree("1")


def test_a_partial_file_that_is_damaged_is_fetched_again(machine: Machine, web: Web) -> None:
    """A power cut tore what was fetched: the hash tells, and the part is fetched from its start."""
    source = sources.find(web.url)
    found = course.check(machine.device, source)
    assert found is not None
    parts = machine.place.incoming / "parts"
    parts.mkdir(parents=True)
    for part in found.update.parts:
        (parts / f"{part.name}.part").write_bytes(bytes(20))
        (parts / part.name).write_bytes(bytes(part.stored))
    (parts / "of-another-update").write_bytes(b"old")
    assert machine.apply(source)
    assert machine.files() == tree("1")
    assert list(parts.iterdir()) == []


def test_a_server_that_answers_with_errors(machine: Machine, web: Web) -> None:
    (web.folder / "update.json").unlink()
    with pytest.raises(NotReached, match="not found; is this the folder"):
        machine.apply(web.url)


def test_fetched_first_and_applied_without_the_network(machine: Machine, web: Web) -> None:
    source = sources.find(web.url)
    with course.alone(machine.place, machine.disk):
        found = course.check(machine.device, source)
        assert found is not None
        course.bring(machine.device, found, source, lambda *_: None)
    before = len(web.requests)
    assert machine.apply(course.fetched(machine.device))
    assert machine.files() == tree("1")
    assert len(web.requests) == before


def test_a_change_of_code_ships_no_weights(machine: Machine, make_update: MakeUpdate) -> None:
    """And the slots share what is alike: one file on the disk with two names."""
    machine.apply(make_update(1))
    delta = make_update(2, web=True)
    with Web(delta) as web:
        assert machine.apply(web.url)
        assert web.sent < 10_000
    slots = machine.place.root / "slots"
    one, other = (slots / name / "models/chat/model.bin" for name in "ab")
    assert one.stat().st_ino == other.stat().st_ino
    assert one.read_bytes() == WEIGHTS


def test_a_large_file_that_changed_in_one_place_ships_that_piece(machine: Machine, make_update: MakeUpdate) -> None:
    machine.apply(make_update(1))
    changed = WEIGHTS[:PIECE] + b"other end".ljust(len(WEIGHTS) - PIECE, b".")
    with Web(make_update(2, files=tree("2", changed), web=True)) as web:
        assert machine.apply(web.url)
        assert web.sent < 20_000
    assert machine.files() == tree("2", changed)


def test_a_bundle_with_only_what_is_new(machine: Machine, make_update: MakeUpdate, tmp_path: Path) -> None:
    one, unrelated = make_update(1), make_update(7, files={"app/code.py": b"version = 'x'\n"})
    delta = make_update(2, before=(one,))
    assert delta.stat().st_size < 20_000 < one.stat().st_size
    (tmp_path / "other").mkdir()
    factory = write_artifact(tmp_path / "other-factory", tree("0", b"small"))
    with Machine(tmp_path / "other", factory, [signing.load(tmp_path / "ota.key", "").public]) as other:
        with pytest.raises(NotTrusted, match="needs that version on the device"):
            other.apply(delta)
        assert other.files() == tree("0", b"small")
    machine.apply(one)
    assert machine.apply(delta)
    assert machine.files() == tree("2")
    assert updating.next_version(tmp_path / "none.lsu", (one, unrelated)) == 8


def test_what_a_device_has_is_found_by_its_bytes_and_not_by_its_names(make_update: MakeUpdate, tmp_path: Path) -> None:
    update = updating.read(make_update(1))
    write_artifact(tmp_path / "moved", {f"elsewhere/{name}": data for name, data in tree("1").items()})
    had = having.look(update, tmp_path / "moved")
    assert {file.sha256 for file in update.files if file.path != "manifest.json"} <= set(had.files)
    (tmp_path / "moved/elsewhere/models/chat/model.bin").write_bytes(bytes(len(WEIGHTS)))
    had = having.look(update, tmp_path / "moved")
    assert next(file.sha256 for file in update.files if file.path == "models/chat/model.bin") not in had.files


def test_a_folder_that_is_served_gains_only_what_is_new(make_update: MakeUpdate, tmp_path: Path) -> None:
    folder = make_update(1, web=True)
    artifact = write_artifact(tmp_path / "v2", tree("2"))
    key = signing.load(tmp_path / "ota.key", "")
    assert updating.next_version(folder, ()) == 2
    made = make(artifact, key, folder, 2)
    assert made.size < 10_000
    assert updating.read(folder).version == 2
    assert not list(folder.rglob(".*"))


def test_the_same_artifact_gives_the_same_bytes(tmp_path: Path, key: signing.SigningKey) -> None:
    artifact = write_artifact(tmp_path / "artifact", tree("1"))
    one, other = (make(artifact, key, tmp_path / f"{name}.lsu", 1).path for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_new_keys_take_over_from_old_ones(machine: Machine, make_update: MakeUpdate, tmp_path: Path) -> None:
    second = signing.new(tmp_path / "second.key", "")
    machine.apply(make_update(1, keys=(second.public,)))
    with pytest.raises(NotTrusted, match="this device trusts"):
        machine.apply(make_update(2))
    assert machine.apply(make_update(2, key=second))
    machine.place.settings.write_text(json.dumps({"keys": [signing.new(tmp_path / "third.key", "").public]}))
    with pytest.raises(NotTrusted):
        machine.apply(make_update(3, key=second))
    assert machine.apply(make_update(3, key=signing.load(tmp_path / "third.key", "")))


def test_keys_of_a_version_that_failed_are_not_taken_over(
    machine: Machine, make_update: MakeUpdate, tmp_path: Path
) -> None:
    second = signing.new(tmp_path / "second.key", "")
    with pytest.raises(course.RolledBack):
        machine.apply(make_update(1, text="1 sick", keys=(second.public,)))
    assert machine.apply(make_update(2))


def test_a_package_that_was_installed_by_hand_serves(machine: Machine, make_update: MakeUpdate, factory: Path) -> None:
    machine.apply(make_update(3))
    write_artifact(factory, tree("by hand"))
    machine.restart()
    assert "by hand" in machine.running
    with pytest.raises(DoesNotFit, match="already had 3"):
        machine.apply(make_update(2))
    assert machine.apply(make_update(4))


@pytest.mark.parametrize(
    ("order", "why"),
    [({"version": 0}, "cannot be"), ({"version": 2, "minimum": 2}, "cannot be")],
)
def test_orders_that_make_no_sense(tmp_path: Path, key: signing.SigningKey, order: dict[str, Any], why: str) -> None:
    artifact = write_artifact(tmp_path / "artifact", tree("1"))
    with pytest.raises(TargetError, match=why):
        make(artifact, key, tmp_path / "x.lsu", **order)
    assert not (tmp_path / "x.lsu").exists()


def test_what_is_damaged_is_not_signed(tmp_path: Path, key: signing.SigningKey) -> None:
    artifact = write_artifact(tmp_path / "artifact", tree("1"))
    (artifact / "app/code.py").write_text("version = '2'\n")
    with pytest.raises(VerifyError, match=r"app/code\.py"):
        make(artifact, key, tmp_path / "x.lsu", 1)
    with pytest.raises(VerifyError, match="not an update"):
        updating.read(artifact / "run")
    with pytest.raises(TargetError, match="there is a file already"):
        make(artifact, key, artifact / "run", 1)


def test_equal_bytes_in_other_files_are_sent_after_all(machine: Machine, make_update: MakeUpdate) -> None:
    """Two files become one of the same bytes: the part is known, and a device has no file of it."""
    two = {"app/code.py": b"version = '1'\n", "site/a.py": b"one = 1\n" * 9, "site/b.py": b"two = 2\n" * 9}
    one = {"app/code.py": b"version = '1'\n", "site/a.py": two["site/a.py"] + two["site/b.py"]}
    first = make_update(1, files=two)
    machine.apply(first)
    delta = make_update(2, files=one, before=(first,))
    assert machine.apply(delta)
    assert machine.files() == one
