"""What a writable store survives: kill -9, power cuts, full and failing disks, other writers, damaged files; with figures."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace
from store_contract import COMPILED, given
from vec_disk import Event, FailingDisk, Recorder, after_power_cut, default, write_files
from vec_history import Player, State, after, apply, check_files, examine, step
from vec_state import KIND, Bare, service

from lsbuild_plugins.sqlite_vec.serve import statefile
from lsbuild_plugins.sqlite_vec.serve.delta import Delta
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import FileEntry
from lsbuild_runtime.services import Services
from small_disk import mounted
from small_services import small_manifest

CRASHES = int(os.environ.get("LSBUILD_CRASHES", "1000" if os.environ.get("LSBUILD_E2E") else "200"))
"""How often a writer is killed."""


def told(capsys: pytest.CaptureFixture[str], record: pytest.RecordProperty, **figures: object) -> None:
    """Show figures in the run and keep them in its XML."""
    for name, value in figures.items():
        record(name, value)
    with capsys.disabled():
        sys.stdout.write("\n  " + ", ".join(f"{name} {value}" for name, value in figures.items()) + " ")


def test_kill_9_loses_nothing_that_was_acknowledged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: pytest.RecordProperty
) -> None:
    """A child writes and says what was acknowledged; it is killed at a random moment; what is there is exactly that, or
    that and the one change that was under way.
    """
    player = Player(tmp_path)
    under_way = 0
    started = time.monotonic()
    moments = random.Random(7)
    try:
        for _ in range(CRASHES):
            player.begin()
            player.listen(moments.randrange(4))
            time.sleep(moments.uniform(0.0, 0.01))
            player.kill()
            under_way += player.settle(examine(tmp_path))
    finally:
        player.close()
    figures = {"crashes": CRASHES, "acknowledged": player.number, "lost": 0, "finished_unsaid": under_way}
    told(capsys, record_property, **figures, seconds=round(time.monotonic() - started, 1))
    assert player.number > CRASHES


CUTS = 350 if os.environ.get("LSBUILD_E2E") else 75
"""Moments of a power cut, each with three fates of what was not synced."""


def test_a_power_cut_loses_nothing_that_was_acknowledged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: pytest.RecordProperty
) -> None:
    """Every write and sync is recorded; the disk is rebuilt as it can look after a power cut at a point, and opened."""
    place = Bare(tmp_path / "before")
    Delta(place.folder, KIND.embedding, KIND.dimensions).make()
    first = {"delta.db": (place.folder / "delta.db").read_bytes()}
    recorder = Recorder()
    states: list[State] = [{}]
    with default(recorder, "recorder"):
        store = place.open()
        numbers = (number for number in range(10**6) if step(number).kind != "compact")
        while len(states) <= 120:
            number = next(numbers)
            apply(store, number)
            states.append(after(states[-1], number))
            recorder.events.append(Event("said", "", len(states) - 1))
        events = list(recorder.events)
        store.close()
    assert {event.file for event in events if event.kind == "sync"} == {"delta.db", "delta.db-wal"}, (
        "no checkpoint was seen"
    )
    moments = random.Random(3)
    around = [place for place, event in enumerate(events) if event.file == "delta.db"]  # the checkpoints
    elsewhere = sorted({*range(len(events) + 1)} - {*around})
    cuts = {*moments.sample(elsewhere, CUTS - 25), *moments.sample(around, min(25, len(around)))}
    looked = in_flight = 0
    for cut in sorted(cuts):
        said = max((event.offset for event in events[:cut] if event.kind == "said"), default=0)
        for fate in (None, random.Random(cut), random.Random(-cut)):
            folder = tmp_path / "after"
            write_files(folder / "vector_stores/manuals", after_power_cut(first, events, cut, fate))
            found = examine(folder)
            assert found in states[said : said + 2], f"power cut at {cut} of {len(events)}"
            in_flight += found != states[said]
            looked += 1
    told(capsys, record_property, power_cuts=looked, writes_and_syncs=len(events), lost=0, finished_unsaid=in_flight)
    assert looked >= 200


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    failing = FailingDisk()
    with default(failing, "failing"):
        yield failing


BREAKDOWNS = {
    "full": ({"write": apsw.FullError("full")}, 507),
    "EIO on fsync": ({"sync": apsw.IOError("EIO")}, 503),
    "EIO on write": ({"write": apsw.IOError("EIO")}, 503),
    "read-only": ({"write": apsw.ReadOnlyError("read-only"), "sync": apsw.ReadOnlyError("read-only")}, 503),
}


@pytest.mark.parametrize("name", BREAKDOWNS)
@pytest.mark.parametrize("countdown", range(12))
def test_a_disk_that_fails_is_a_clear_answer_and_the_next_write_succeeds(
    tmp_path: Path, disk: FailingDisk, name: str, countdown: int
) -> None:
    """Whichever operation of a write is the first to fail: nothing changed, searches go on, nobody has to restart."""
    fails, status = BREAKDOWNS[name]
    store = Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    disk.break_down(countdown, **fails)
    number = 0
    while not disk.failed and number < 40:  # until the disk is reached: a WAL takes some writes, a checkpoint its own
        before = store.files()
        try:
            store.put(*given(f"file-b{number}", "The pump is blue.", "And closed."))
            number += 1
        except ApiError as error:
            assert error.status == status
            assert str(tmp_path) in error.message
            assert store.files() == before
            assert len(store.search("pump", Context(), limit=50)) == 1 + 2 * number
    assert disk.failed
    disk.mend()
    store.put(*given("file-c", "The pump is green."))
    assert store.info().files == number + 2
    store.close()
    assert len(examine_files(tmp_path)) == number + 2


def examine_files(folder: Path) -> list[str]:
    """The file_ids of a store that passes every check."""
    store = Bare(folder).open()
    check_files(store)
    return [file.file_id for file in store.files()]


@pytest.mark.parametrize("name", BREAKDOWNS)
@pytest.mark.parametrize("countdown", [0, 1, 3, 10, 20, 40])
def test_compacting_on_a_disk_that_fails_changes_nothing(
    tmp_path: Path, disk: FailingDisk, name: str, countdown: int
) -> None:
    fails, status = BREAKDOWNS[name]
    store = Bare(tmp_path).open()
    for number in range(10):
        store.put(*given(f"file-{number}", f"The pump {number}."))
    before = (store.files(), store.search("pump 7", Context()))
    disk.break_down(countdown, **fails)
    try:
        store.compact(Context())
    except ApiError as error:
        assert error.status == status
    assert store.files() == before[0]
    disk.mend()
    store.compact(Context())
    assert store.files() == before[0]
    assert {hit.chunk_id for hit in store.search("pump 7", Context())} == {hit.chunk_id for hit in before[1]}
    assert sorted(path.suffix for path in Bare(tmp_path).folder.glob("generation-*")) == [".db"]
    check_files(store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    with mounted(tmp_path / "small") as folder:
        yield folder


def test_a_real_disk_that_is_full_is_507_until_there_is_room(small_disk: Path) -> None:
    store = Bare(small_disk).open()
    texts = [f"The pump {part} is red, and so is the valve beside it." for part in range(20)]
    kept: list[str] = []
    with pytest.raises(ApiError) as error:
        for number in range(1000):
            store.put(*given(f"file-{number:03}", *texts))
            kept.append(f"file-{number:03}")
    assert (error.value.status, error.value.code) == (507, "disk_full")
    assert kept
    assert [file.file_id for file in store.files()] == sorted(kept)
    assert len(store.search("pump", Context(), limit=5)) == 5
    with pytest.raises(ApiError) as error:
        store.put(*given("file-x", *texts))
    assert error.value.status == 507
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    store.put(*given("file-x", *texts))
    assert len(examine_files(small_disk)) == len(kept) + 1


def test_a_read_only_file_system_is_503_until_it_can_be_written(small_disk: Path) -> None:
    store = Bare(small_disk).open()
    store.put(*given("file-a", "The pump is red."))
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = Bare(small_disk).open()
    with pytest.raises(ApiError) as error:
        store.put(*given("file-b", "The pump is blue."))
    assert (error.value.status, error.value.code) == (503, "store_unavailable")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    store.put(*given("file-b", "The pump is blue."))
    assert [file.file_id for file in store.files()] == ["file-a", "file-b"]


def test_two_processes_write_and_neither_loses(tmp_path: Path) -> None:
    """Each with documents of its own, each compacting now and then what both wrote; both are killed again and again."""
    players = [Player(tmp_path, prefix) for prefix in ("first-", "second-")]
    try:
        for _ in range(5):
            for player in players:
                player.begin()
            for player in players:
                player.listen(20)
            for player in players:
                player.kill()
            found = examine(tmp_path)
            for player in players:
                player.settle({name: form for name, form in found.items() if name.startswith(player.prefix)})
    finally:
        for player in players:
            player.close()
    assert all(player.number >= 100 for player in players)


@pytest.mark.parametrize("damage", ["cut", "swapped", "changed", "missing"])
def test_a_damaged_generation_is_refused(tmp_path: Path, damage: str) -> None:
    store = Bare(tmp_path).open()
    for number in range(20):
        store.put(*given(f"file-{number}", f"The pump {number}."))
    assert store.compact(Context()) == 20
    (path,) = Bare(tmp_path).folder.glob("generation-*")
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        forms = {"cut": data[:-4096], "swapped": bytes(len(data)), "changed": data[:-1] + bytes([data[-1] ^ 1])}
        path.write_bytes(forms[damage])
    again = Bare(tmp_path).open()
    for ask in (again.files, again.info, lambda: again.search("pump", Context()), lambda: again.remove("file-1")):
        with pytest.raises(ApiError) as error:
            ask()
        assert (error.value.status, error.value.code) == (503, "store_damaged")
    path.write_bytes(data)
    assert len(again.files()) == 20


def test_a_truncated_or_swapped_index_is_refused_by_its_hash(tmp_path: Path, compiler: Any) -> None:
    """By the very code that opens services, before the store is."""
    root = compiler.build(COMPILED)
    index = root / "indexes/manuals/index.db"
    data = index.read_bytes()
    entry = FileEntry(
        path="indexes/manuals/index.db", sha256=hashlib.sha256(data).hexdigest(), size=len(data), part="index"
    )
    manifest = replace(small_manifest([service()]), files=(entry,))
    place = tmp_path / "root/indexes/manuals/index.db"
    place.parent.mkdir(parents=True)
    for damaged in (data[:-4096], data[:-1] + b"x", bytes(len(data))):
        place.write_bytes(damaged)
        with pytest.raises(ApiError, match=r"index\.db.*damaged") as error:
            Services(manifest, tmp_path / "root", tmp_path / "state").get("vector_io", "manuals")
        assert error.value.status == 503
    place.write_bytes(data)
    assert Services(manifest, tmp_path / "root", tmp_path / "state").get("vector_io", "manuals").info().files == 2


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_delta_is_a_clear_answer(tmp_path: Path, damage: str) -> None:
    store = Bare(tmp_path).open()
    for number in range(20):
        store.put(*given(f"file-{number}", f"The pump {number}."))
    store.close()
    path = Bare(tmp_path).folder / "delta.db"
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "garbage": b"\xa5" * len(data), "empty": b""}[damage])
    again = Bare(tmp_path).open()
    with pytest.raises(ApiError) as error:
        again.search("pump", Context())
    assert (error.value.status, error.value.code) == (503, "store_damaged")


SEARCHES = 10_000


def test_ten_thousand_searches_while_documents_come_and_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: pytest.RecordProperty
) -> None:
    """Eight threads search, one replaces and removes, one compacts: each answer is one state of the store, whole."""
    store = Bare(tmp_path).open()
    forms = [given("file-a", *(f"The {color} pump, part {part}." for part in range(3))) for color in ("red", "blue")]
    wanted = [[passage.text for passage in form.passages] for form in forms]
    store.put(*forms[0])
    started, done = time.monotonic(), threading.Event()

    def search(_: int) -> int:
        texts = sorted(hit.text for hit in store.search("pump part", Context(), mode="keyword", limit=50))
        assert [text for text in texts if "pump" in text] in wanted
        return len(texts)

    def write() -> int:
        turn = 0
        while not done.is_set():
            turn += 1
            store.put(*forms[turn % 2])
            store.put(*given(f"file-{turn % 7}", "The valve, a part."))
            store.remove(f"file-{(turn + 3) % 7}")
            if turn % 20 == 0:
                store.compact(Context())
        return 3 * turn

    with ThreadPoolExecutor(9) as threads:
        writer = threads.submit(write)
        try:
            found = list(threads.map(search, range(SEARCHES), chunksize=50))
        finally:
            done.set()
        changes = writer.result()
    seconds = round(time.monotonic() - started, 1)
    told(capsys, record_property, searches=len(found), changes_meanwhile=changes, seconds=seconds)
    assert changes > 30
    check_files(store)


def test_a_writer_that_waits_too_long_is_told_when_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "BUSY_SECONDS", 0.05)
    store, other = Bare(tmp_path).open(), Bare(tmp_path).open()
    store.put(*given("file-a", "The pump is red."))
    delta = Delta(Bare(tmp_path).folder, KIND.embedding, KIND.dimensions)
    with delta.change():
        for each in (store, other):
            with pytest.raises(ApiError) as error:
                each.put(*given("file-b", "The pump is blue."))
            assert (error.value.status, error.value.retry_after) == (503, 1)
            assert len(each.search("pump", Context())) == 1  # readers never wait
    store.put(*given("file-b", "The pump is blue."))
    assert len(other.files()) == 2
