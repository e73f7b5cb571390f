"""The files API: what was acknowledged is there whole, and whatever a client sends, the answer says what is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from lsbuild_runtime.app import App
from runtime_asking import Answer, asked
from small_disk import mounted
from small_stores import mutable_manifest
from uploading import BOUNDARY, FORM, form, opened, part, upload, uploaded

HOUR = 3600


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application that keeps state."""
    with opened(tmp_path) as made:
        yield made


def send(app: App, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    """POST /v1/files with that very body."""
    return asked(app, "POST", "/v1/files", body, headers=FORM if headers is None else headers)


def test_a_file_comes_back_byte_for_byte(app: App) -> None:
    data = bytes(range(256)) * 300 + b"\r\n--" + BOUNDARY.encode()[:-1]
    made = upload(app, "a.bin", data, "user_data").json
    assert made == {
        "id": made["id"], "object": "file", "bytes": len(data), "created_at": made["created_at"], "filename": "a.bin",
        "purpose": "user_data", "status": "processed", "expires_at": None,
    }  # fmt: skip
    assert asked(app, "GET", f"/v1/files/{made['id']}").json == made
    content = asked(app, "GET", f"/v1/files/{made['id']}/content")
    assert content.body == data
    assert content.headers["content-type"] == "application/octet-stream"


def test_files_are_there_after_a_restart_and_gone_when_deleted(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        file = uploaded(app, "a.txt", "kept")
    with opened(tmp_path) as app:
        assert asked(app, "GET", f"/v1/files/{file}/content").body == b"kept"
        assert asked(app, "DELETE", f"/v1/files/{file}").json == {"id": file, "object": "file", "deleted": True}
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = asked(app, method, f"/v1/files/{file}{path}")
            assert (answer.status, answer.error["code"]) == (404, "file_not_found")


def test_lists_page_by_cursor_in_both_orders(app: App) -> None:
    ids = [uploaded(app, f"{place}.txt", "x") for place in range(5)]
    other = upload(app, "v.png", "x", "vision").json["id"]
    listed = asked(app, "GET", "/v1/files").json
    assert [file["id"] for file in listed["data"]] == [other, *reversed(ids)]
    assert not listed["has_more"]
    query = {"order": "asc", "limit": "2", "purpose": "assistants"}
    first = asked(app, "GET", "/v1/files", query=query).json
    assert ([file["id"] for file in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = asked(app, "GET", "/v1/files", query={**query, "limit": "9", "after": first["last_id"]}).json
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert asked(app, "GET", "/v1/files", query={"after": "nobody"}).error["param"] == "after"
    assert asked(app, "GET", "/v1/files", query={"limit": "10001"}).error["param"] == "limit"


def test_a_file_expires(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with opened(tmp_path, clock=lambda: now[0]) as app:
        fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(HOUR)}
        file = upload(app, "a.txt", "x", **fields).json
        assert file["expires_at"] == 1_000_000 + HOUR
        batch = upload(app, "b.jsonl", "{}", "batch").json
        assert batch["expires_at"] == 1_000_000 + 30 * 24 * HOUR
        now[0] += HOUR - 1
        assert asked(app, "GET", f"/v1/files/{file['id']}").status == 200
        now[0] += 1
        assert asked(app, "GET", f"/v1/files/{file['id']}").status == 404
        assert [one["id"] for one in asked(app, "GET", "/v1/files").json["data"]] == [batch["id"]]
        app.stores.expire()
        with apsw.Connection(str(tmp_path / "state/uploads/uploads.sqlite")) as db:
            assert db.execute("SELECT count(*) FROM files").get == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "../../etc/passwd"),
        ("/abs/a.md", "/abs/a.md"),
        ("a\tb\x00c.md", "a_b_c.md"),
        ("C:\\Users\\me\\a.md", "a.md"),
        ("näme 日本.md", "näme 日本.md"),
        ("q%22uote.md", 'q"uote.md'),
        ("x" * 512, "x" * 512),
    ],
)
def test_a_filename_is_a_name_and_never_a_path(tmp_path: Path, app: App, given: str, kept: str) -> None:
    before = set(tmp_path.rglob("*"))
    made = upload(app, given, "x")
    assert made.json["filename"] == kept
    content = asked(app, "GET", f"/v1/files/{made.json['id']}/content")
    assert content.headers["content-disposition"].isascii()
    new = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert new <= {"state", "uploads", "uploads.sqlite", "uploads.sqlite-wal", "uploads.sqlite-shm"}


PURPOSE, FILE = part("purpose", "assistants"), part("file", "x", "a.txt")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(PURPOSE), "file"),
        (form(FILE), "purpose"),
        (form(part("purpose", "fun"), FILE), "purpose"),
        (form(PURPOSE, part("file", "x")), "file"),
        (form(PURPOSE, part("file", "x", "")), "file"),
        (form(PURPOSE, part("file", "x", "y" * 513)), "file"),
        (form(PURPOSE, part("file", "", "a.txt")), "file"),
        (form(PURPOSE, PURPOSE, FILE), "purpose"),
        (form(PURPOSE, FILE, FILE), "file"),
        (form(PURPOSE, FILE, part("surprise", "x")), "surprise"),
        (form(part("purpose", b"\xff"), FILE), "purpose"),
        (form(part("purpose", "x" * 2000), FILE), "purpose"),
        (form(PURPOSE, FILE, part("expires_after[seconds]", "3600")), "expires_after[anchor]"),
        (form(PURPOSE, FILE, part("expires_after[anchor]", "created_at")), "expires_after[seconds]"),
        (
            form(PURPOSE, FILE, part("expires_after[anchor]", "created_at"), part("expires_after[seconds]", "9")),
            "expires_after[seconds]",
        ),
        (form(PURPOSE, FILE)[:-20], None),
        (b"", None),
        (b"no form at all", None),
        (form(*[part(f"f{place}", "x") for place in range(20)]), None),
        (form(b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n\r\n"), None),
        (form(b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data; name=\xff\xfe\r\n\r\n\r\n"), None),
    ],
)
def test_a_broken_form_is_refused_and_leaves_nothing(app: App, body: bytes, param: str | None) -> None:
    answer = send(app, body)
    assert answer.status == 400, answer.body
    assert answer.error["param"] == param
    assert asked(app, "GET", "/v1/files").json["data"] == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=ä", 400),
        ("multipart/form-data; boundary=other", 400),
    ],
)
def test_the_content_type_decides(app: App, content_type: str, status: int) -> None:
    assert send(app, form(PURPOSE, FILE), {"content-type": content_type}).status == status


def test_without_state_every_route_says_how_to_get_it(tmp_path: Path) -> None:
    app = App(mutable_manifest(), tmp_path)
    for answer in (upload(app, "a.txt", "x"), asked(app, "GET", "/v1/files"), asked(app, "GET", "/v1/files/x/content")):
        assert answer.status == 503
        assert "--state" in answer.error["message"]
        assert "LSBUILD_STATE" in answer.error["message"]


def test_a_state_folder_that_cannot_be_made_is_503(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    app = App(mutable_manifest(), tmp_path, state=tmp_path / "file" / "state")
    answer = upload(app, "a.txt", "x")
    assert answer.status == 503
    assert "LSBUILD_STATE" in answer.error["message"]


def test_a_full_disk_is_507_and_the_next_upload_succeeds_when_there_is_room(app: App) -> None:
    uploaded(app, "a.txt", "x")
    with app.stores.uploads.files._database.writing() as db:
        pages = db.pragma("page_count")
        db.pragma("max_page_count", pages + 2)
    answer = upload(app, "b.txt", "y" * 100_000)
    assert (answer.status, answer.error["code"]) == (507, "disk_full")
    uploaded(app, "c.txt", "y" * 100_000)  # the connection was opened anew: the limit was the old one's
    assert [file["filename"] for file in asked(app, "GET", "/v1/files").json["data"]] == ["c.txt", "a.txt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own, where the state is to be."""
    with mounted(tmp_path / "state") as folder:
        yield folder


def test_a_real_disk_that_is_full_is_507_until_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 500_000)
    with opened(tmp_path) as app:
        kept: list[str] = []
        answer = upload(app, "a.bin", b"x" * 200_000)
        while answer.status == 200 and len(kept) < 20:
            kept.append(answer.json["id"])
            answer = upload(app, "a.bin", b"x" * 200_000)
        assert (answer.status, answer.error["code"]) == (507, "disk_full")
        assert str(small_disk) in answer.error["message"]
        assert asked(app, "GET", "/v1/files").json["data"][0]["id"] == kept[-1]
        (small_disk / "ballast").unlink()
        kept.append(uploaded(app, "b.bin", b"y" * 200_000))
        assert {file["id"] for file in asked(app, "GET", "/v1/files").json["data"]} == set(kept)
        for file in kept:
            assert len(asked(app, "GET", f"/v1/files/{file}/content").body) == 200_000


def test_a_read_only_file_system_is_503_until_it_can_be_written(tmp_path: Path, small_disk: Path) -> None:
    with opened(tmp_path) as app:
        file = uploaded(app, "a.txt", "kept")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with opened(tmp_path) as app:
        answer = upload(app, "b.txt", "x")
        assert answer.status == 503
        assert "make it writable" in answer.error["message"]
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        uploaded(app, "b.txt", "x")
        assert asked(app, "GET", f"/v1/files/{file}/content").body == b"kept"


def test_a_damaged_database_is_503_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "state/uploads"
    folder.mkdir(parents=True)
    (folder / "uploads.sqlite").write_bytes(b"this is no database, but long enough to look like one" * 100)
    with opened(tmp_path) as app:
        answer = upload(app, "a.txt", "x")
        assert answer.status == 503
        assert "uploads.sqlite is damaged" in answer.error["message"]


def test_a_database_of_a_newer_runtime_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state/uploads"
    folder.mkdir(parents=True)
    with apsw.Connection(str(folder / "uploads.sqlite")) as db:
        db.execute("PRAGMA user_version=99")
    with opened(tmp_path) as app:
        answer = upload(app, "a.txt", "x")
        assert answer.status == 503
        assert "schema 99" in answer.error["message"]
