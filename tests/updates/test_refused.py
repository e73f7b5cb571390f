"""What a device does not take: each is one sentence with an exit code, and what served serves on."""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from lsbuild.delivery import signing
from lsbuild_runtime.updates import course, room
from lsbuild_runtime.updates import format as formats
from lsbuild_runtime.updates.errors import DoesNotFit, NoRoom, NotReached, NotTrusted, RolledBack, Unusable, UpdateError
from lsbuild_runtime.updates.sources import find
from update_tools import Machine, tree

MakeUpdate = Callable[..., Path]


def refused(machine: Machine, source: Path | str, kind: type[UpdateError], why: str) -> None:
    """The update is refused and leaves the device as it was."""
    before = (machine.state(), machine.files(), machine.starts)
    with pytest.raises(kind, match=why):
        machine.apply(source)
    assert (machine.state(), machine.files(), machine.starts) == before


def envelope(update: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((update / "update.json").read_bytes())
    return value


def test_a_good_update_is_taken_first(machine: Machine, make_update: MakeUpdate) -> None:
    """What the other tests refuse differs from this in one thing each."""
    assert machine.apply(make_update(1))
    assert machine.files() == tree("1")
    assert machine.state().committed.version == 1


def test_one_that_is_signed_by_another_key(machine: Machine, make_update: MakeUpdate, tmp_path: Path) -> None:
    other = signing.new(tmp_path / "other.key", "")
    refused(machine, make_update(1, key=other), NotTrusted, f"signed by {other.id}; this device trusts")


def test_one_that_says_the_name_of_the_right_key(
    machine: Machine, make_update: MakeUpdate, tmp_path: Path, key: signing.SigningKey
) -> None:
    web = make_update(1, key=signing.new(tmp_path / "other.key", ""), web=True)
    value = envelope(web)
    value["signatures"] = [{**value["signatures"][0], "keyid": key.id}]  # type: ignore[index]
    (web / "update.json").write_text(json.dumps(value))
    refused(machine, web, NotTrusted, "its signature does not fit")


def test_one_that_is_not_signed(machine: Machine, make_update: MakeUpdate) -> None:
    web = make_update(1, web=True)
    (web / "update.json").write_text(json.dumps({**envelope(web), "signatures": []}))
    refused(machine, web, NotTrusted, "signed by nobody")


def test_one_that_was_changed_after_it_was_signed(machine: Machine, make_update: MakeUpdate) -> None:
    web = make_update(1, web=True)
    value = envelope(web)
    payload = base64.b64decode(str(value["payload"])).replace(b'"version":1', b'"version":9')
    (web / "update.json").write_text(json.dumps({**value, "payload": base64.b64encode(payload).decode()}))
    refused(machine, web, NotTrusted, "changed after it was signed")


def test_one_whose_signature_was_made_for_something_else(
    machine: Machine, make_update: MakeUpdate, key: signing.SigningKey
) -> None:
    """The bare payload, signed without saying that it is an update."""
    web = make_update(1, web=True)
    value = envelope(web)
    bare = key._key.sign(base64.b64decode(str(value["payload"])))
    signed = [{"keyid": key.id, "sig": base64.b64encode(bare).decode()}]
    (web / "update.json").write_text(json.dumps({**value, "signatures": signed}))
    refused(machine, web, NotTrusted, "its signature does not fit")


def test_a_part_that_was_changed(machine: Machine, make_update: MakeUpdate) -> None:
    web = make_update(1, web=True)
    part = max((web / "parts").iterdir(), key=lambda path: path.stat().st_size)
    for part in (web / "parts").iterdir():
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    refused(machine, web, NotTrusted, "is not what was signed")


def test_a_part_that_is_longer_or_missing(machine: Machine, make_update: MakeUpdate) -> None:
    web = make_update(1, web=True)
    for part in (web / "parts").iterdir():
        part.write_bytes(part.read_bytes() + b"more")
    machine.apply(web)  # a folder is read as far as was signed
    other = make_update(2, web=True)
    for part in (other / "parts").iterdir():
        part.unlink()
    refused(machine, other, NotTrusted, "is not there")


def test_bundles_that_are_truncated_anywhere(machine: Machine, make_update: MakeUpdate, tmp_path: Path) -> None:
    data = make_update(1).read_bytes()
    ends = [0, 1, 511, 512, 513, 1024, 3000, len(data) // 2, len(data) - 10240, len(data) - 10241]
    for end in ends:
        path = tmp_path / "short.lsu"
        path.write_bytes(data[:end])
        refused(machine, path, NotTrusted, "truncated|damaged|holds no")


def test_every_byte_of_a_header_may_be_damaged(machine: Machine, make_update: MakeUpdate, tmp_path: Path) -> None:
    """No traceback, whatever the bytes of the first header are."""
    data = make_update(1).read_bytes()
    path = tmp_path / "damaged.lsu"
    for at in range(0, 512, 11):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        path.write_bytes(changed)
        try:
            machine.apply(path)
        except NotTrusted:
            pass
        else:
            raise AssertionError(f"byte {at} of the header counts for nothing")
    assert machine.state().committed.version == 0


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"PK\x03\x04" * 400, b"{}", b"x" * 5000])
def test_what_is_no_update_at_all(machine: Machine, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "strange.lsu"
    path.write_bytes(content)
    refused(machine, path, NotTrusted, "truncated|damaged|holds no")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"payloadType": 1}',
        "[" * 100_000,
        '{"payloadType": "application/vnd.lsbuild.update+json", "payload": "?", "signatures": []}',
    ],
)
def test_an_envelope_that_is_none(machine: Machine, make_update: MakeUpdate, text: str) -> None:
    web = make_update(1, web=True)
    (web / "update.json").write_text(text)
    refused(machine, web, NotTrusted, "is not an update")


@pytest.mark.parametrize(("field", "value"), [("name", "other"), ("platform", "linux-aarch64-cp311")])
def test_one_for_another_product_or_platform(machine: Machine, make_update: MakeUpdate, field: str, value: str) -> None:
    refused(machine, make_update(1, **{field: value}), DoesNotFit, f"{value}.*this device is tiny host linux-x86_64")


def test_older_ones_and_another_one_of_the_same_version(machine: Machine, make_update: MakeUpdate) -> None:
    old = make_update(1)
    machine.apply(make_update(3))
    refused(machine, old, DoesNotFit, "version 1, this device already had 3")
    refused(machine, make_update(3, text="another"), DoesNotFit, "already had 3")


def test_going_back_by_hand_opens_no_door_for_older_ones(machine: Machine, make_update: MakeUpdate) -> None:
    two, four = make_update(2), make_update(4)
    machine.apply(two)
    machine.apply(four)
    course.go_back_by_hand(machine.device)
    assert machine.files() == tree("2")
    refused(machine, make_update(3), DoesNotFit, "already had 4")
    refused(machine, four, DoesNotFit, "taken back by hand")
    assert machine.apply(four, again=True)
    assert machine.files() == tree("4")


def test_one_that_needs_a_step_between(machine: Machine, make_update: MakeUpdate) -> None:
    last = make_update(5, minimum=3)
    refused(machine, last, DoesNotFit, "needs version 3 first, this device has no update")
    machine.apply(make_update(3))
    assert machine.apply(last)


def test_a_full_disk_is_told_before_anything_is_fetched(
    machine: Machine, make_update: MakeUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SPARE", 1 << 60)
    refused(machine, make_update(1), NoRoom, r"needs \d+\.\d MB .* are free; make room")
    assert not (machine.place.incoming / "parts").exists()


def test_no_key_is_trusted(machine: Machine, make_update: MakeUpdate) -> None:
    update = make_update(1)
    machine.place.settings.write_text("{}")
    refused(machine, update, Unusable, "no key is trusted; write the line")


@pytest.mark.parametrize("text", ["", "[]", '{"keys": ["x"]}', '{"keys": 1}', '{"kyes": []}'])
def test_settings_that_are_wrong(machine: Machine, make_update: MakeUpdate, text: str) -> None:
    update = make_update(1)
    machine.place.settings.write_text(text)
    with pytest.raises(Unusable, match=r"settings\.json"):
        machine.apply(update)


def test_nothing_there(machine: Machine) -> None:
    refused(machine, "/no/such/update.lsu", NotReached, "no such file")
    refused(machine, "http://127.0.0.1:9/updates", NotReached, "not reached")


def test_a_damaged_record_stops_updates_and_not_the_service(machine: Machine, make_update: MakeUpdate) -> None:
    machine.apply(make_update(1))
    machine.place.state.write_text("{")
    with pytest.raises(Unusable, match="is damaged"):
        machine.apply(make_update(2))
    machine.restart()
    assert machine.files() == tree("0")
    machine.place.state.unlink()
    assert machine.apply(make_update(2))


def test_a_version_that_is_sick_is_taken_back_and_not_tried_again(machine: Machine, make_update: MakeUpdate) -> None:
    machine.apply(make_update(1))
    bad = make_update(2, text="2 sick")
    with pytest.raises(RolledBack, match=r"/v1/health was not good after 60 s: status 503"):
        machine.apply(bad)
    assert machine.files() == tree("1")
    assert "'1'" in machine.running
    refused(machine, bad, DoesNotFit, "was tried before: .*503")
    assert machine.apply(make_update(2, text="2 mended"))


def test_a_version_that_crashes_is_taken_back_by_the_next_start(machine: Machine, make_update: MakeUpdate) -> None:
    machine.apply(make_update(1))
    with pytest.raises(RolledBack, match="ended, or was started again"):
        machine.apply(make_update(2, text="2 crash"))
    assert machine.files() == tree("1")
    assert "'1'" in machine.running


def test_a_question_that_is_answered_wrongly(
    machine: Machine, make_update: MakeUpdate, key: signing.SigningKey
) -> None:
    web = make_update(1, web=True)
    update = formats.from_json(base64.b64decode(str(envelope(web)["payload"])))
    question = formats.Question("POST", "/v1/embeddings", {"model": "m", "input": ["x"]}, 200)
    payload = formats.to_json(update._replace(questions=(question,)))
    (web / "update.json").write_bytes(key.envelope(payload))
    with pytest.raises(RolledBack, match=r"POST /v1/embeddings: status 501"):
        machine.apply(web)
    assert machine.files() == tree("0")


def test_a_restart_of_the_device_takes_a_trial_back_and_three_times_is_enough(
    machine: Machine, make_update: MakeUpdate
) -> None:
    update = make_update(1)
    for number in range(3):
        source = find(str(update))
        with course.alone(machine.place, machine.disk):
            found = course.check(machine.device, source)
            assert found is not None
            course.build(machine.device, found, course.bring(machine.device, found, source, lambda *_: None))
            machine.restart()
        assert "'1'" in machine.running
        machine.boot = f"boot-again-{number}"
        machine.restart()
        assert "'0'" in machine.running
        assert machine.state().trial is None
    refused(machine, update, DoesNotFit, "the device was started again during the trial")


def test_a_trial_that_nobody_watches_is_not_started(machine: Machine, make_update: MakeUpdate) -> None:
    """Its updater died after it had built the version: who starts the service then gets the one before."""
    source = find(str(make_update(1)))
    found = course.check(machine.device, source)
    assert found is not None
    course.build(machine.device, found, course.bring(machine.device, found, source, lambda *_: None))
    machine.restart()
    assert "'0'" in machine.running
    assert machine.apply(Path(source.where), again=True)


def test_two_updaters_at_once(machine: Machine, make_update: MakeUpdate) -> None:
    update = make_update(1)
    with course.alone(machine.place, machine.disk):
        refused(machine, update, Unusable, "another update is under way")


def signed_anew(web: Path, key: signing.SigningKey, **changes: object) -> None:
    """The update in ``web`` with other values, signed by the right key: what a wrong tool might make."""
    value = json.loads(base64.b64decode(str(envelope(web)["payload"])))
    payload = json.dumps({**value, **changes}).encode()
    (web / "update.json").write_bytes(key.envelope(payload))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 2}, "it has schema 2"),
        ({"files": [["../../etc/passwd", "0" * 64, 0, 0o644]], "parts": []}, "not a plain relative path"),
        ({"files": [["/etc/passwd", "0" * 64, 0, 0o644]], "parts": []}, "not a plain relative path"),
        ({"files": [["a//b", "0" * 64, 0, 0o644]], "parts": []}, "not a plain relative path"),
        ({"files": [["a", "0" * 64, 0, 0o4755]], "parts": []}, "is not a file"),
        ({"files": [["a", "0" * 64, 0, 0o644], ["a/b", "0" * 64, 0, 0o644]], "parts": []}, "a file and a folder"),
        ({"files": [["a", "0" * 64, 0, 0o644], ["a", "0" * 64, 0, 0o644]], "parts": []}, "comes twice"),
        ({"files": [["a", "0" * 64, 5, 0o644]], "parts": []}, "not as large"),
        ({"parts": [["../x", "0" * 64, 1, 1]]}, "is not a part"),
        ({"parts": [["0" * 64, "0" * 64, 1 << 40, 1]]}, "is not a part"),
        ({"version": 0}, "product, version or content"),
        ({"version": "7"}, "wrong kind"),
        ({"version": True}, "wrong kind"),
        ({"product": "../x"}, "product, version or content"),
        ({"files": 1}, "not readable"),
    ],
)
def test_signed_and_still_wrong(
    machine: Machine, make_update: MakeUpdate, key: signing.SigningKey, changes: dict[str, object], why: str
) -> None:
    web = make_update(1, web=True)
    signed_anew(web, key, **changes)
    refused(machine, web, DoesNotFit, why)


def test_a_part_that_unpacks_to_more_than_was_signed(
    machine: Machine, make_update: MakeUpdate, key: signing.SigningKey
) -> None:
    """A bomb with a right name: it is stopped at the size that was signed."""
    web = make_update(1, web=True)
    bomb = lzma.compress(bytes(64 << 20))
    name = hashlib.sha256(bomb).hexdigest()
    (web / "parts" / name).write_bytes(bomb)
    content = b"small"
    signed_anew(
        web,
        key,
        files=[["manifest.json", hashlib.sha256(content).hexdigest(), len(content), 0o644]],
        parts=[[name, hashlib.sha256(content).hexdigest(), len(content), len(bomb)]],
    )
    with pytest.raises(NotTrusted, match="does not unpack to the 5 bytes"):
        machine.apply(web)
    assert machine.files() == tree("0")
