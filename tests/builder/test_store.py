"""The store: an object is whole or absent, whoever was killed, however many write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from lsbuild.disk import folder_from, full
from lsbuild.errors import StoreError
from lsbuild.running.store import Meta, Store

KEY = "ab" * 32
OTHER = "cd" * 32


def put(store: Store, key: str = KEY, text: str = "text") -> Path:
    with store.claim(key) as out:
        (out / "folder").mkdir()
        (out / "folder" / "a.txt").write_text(text)
        (out / "tool").write_text("#!/bin/sh\n")
        (out / "tool").chmod(0o700)
        return store.commit(key, out, Meta(step="demo", facts={"n": 1}, seconds=1.5))


def test_what_was_committed_is_there_and_read_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has(KEY)
    place = put(store)
    assert store.has(KEY)
    assert place == store.path(KEY) == store.use(KEY)
    assert (place / "folder" / "a.txt").read_text() == "text"
    assert (place / "folder" / "a.txt").stat().st_mode & 0o777 == 0o444
    assert (place / "tool").stat().st_mode & 0o777 == 0o555
    meta = store.meta(KEY)
    assert meta.step == "demo"
    assert meta.facts == {"n": 1}
    assert meta.size == 4 + 10
    assert sorted(meta.files) == ["folder/a.txt", "tool"]
    assert store.verify(KEY) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_was_not_committed_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(KEY) as out:
        (out / "half").write_text("half")
    assert not store.has(KEY)
    with pytest.raises(ZeroDivisionError), store.claim(KEY) as out:
        raise ZeroDivisionError
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(StoreError, match="Build again"):
        store.meta(KEY)


def test_errors_inside_a_claim_are_not_the_stores(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), Store(tmp_path).claim(KEY):
        raise PermissionError("someone else's")


def test_a_damaged_object_is_seen_and_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = put(store)
    (place / "folder" / "a.txt").chmod(0o644)
    (place / "folder" / "a.txt").write_text("longer text")
    assert not store.has(KEY)
    assert put(store) == place
    assert store.has(KEY)
    assert (place / "folder" / "a.txt").read_text() == "text"


def test_verify_reads_every_byte(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = put(store)
    (place / "folder" / "a.txt").chmod(0o644)
    (place / "folder" / "a.txt").write_text("tixt")
    (place / "extra").write_text("")
    assert store.has(KEY), "has() looks at sizes only, and says so"
    assert store.verify(KEY) == [f"{place}/folder/a.txt: missing or changed", f"{place}/extra: not part of the object"]
    store.discard(KEY)
    assert not store.has(KEY)
    assert store.verify(KEY)


def test_links_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="may only write plain files"), store.claim(KEY) as out:
        (out / "link").symlink_to("/etc/hosts")
        store.commit(KEY, out, Meta(step="demo"))
    assert not store.has(KEY)


def test_an_object_may_be_empty(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(KEY) as out:
        store.commit(KEY, out, Meta(step="demo"))
    assert store.has(KEY)
    assert store.path(KEY).is_dir()


def test_prune_takes_the_least_recently_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, KEY)
    put(store, OTHER)
    os.utime(store.path(OTHER).parent / "meta.json", (1, 1))
    assert [each.key for each in store.objects()] == [OTHER, KEY]
    assert store.prune(keep_bytes=20) == 14
    assert store.has(KEY)
    assert not store.has(OTHER)
    assert store.prune(keep_bytes=20) == 0
    (tmp_path / "blobs" / "aa").mkdir(parents=True)
    (tmp_path / "blobs" / "aa" / "x").write_bytes(b"123")
    assert store.clear() == 14 + 3
    assert store.objects() == []


def test_the_folder_comes_from_the_environment() -> None:
    assert folder_from({"LSBUILD_CACHE": "/a/b"}) == Path("/a/b")
    assert folder_from({"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/lsbuild")
    assert folder_from({"HOME": "/h"}) == Path("/h/.cache/lsbuild")


def test_a_cache_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the cache cannot be used") as caught:
        Store(tmp_path / "file" / "cache")
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_a_read_only_cache_serves_and_refuses_to_build() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        put(Store(Path(folder)))
        script = f"""
        import os
        from pathlib import Path
        from lsbuild.errors import StoreError
        from lsbuild.running.store import Store
        os.setgid(65534)
        os.setuid(65534)
        store = Store(Path({folder!r}))
        assert store.has({KEY!r}) and store.use({KEY!r}).is_dir()
        try:
            with store.claim({OTHER!r}):
                pass
        except StoreError as error:
            assert "LSBUILD_CACHE" in str(error), error
        else:
            raise SystemExit("claimed in a read-only cache")
        """
        words = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK) or os.getuid() != 0, reason="needs root to mount a tiny disk")
def test_a_full_disk_is_told_with_numbers(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        store = Store(tmp_path)
        with pytest.raises(OSError, match="No space left"), store.claim(KEY) as out:
            (out / "big").write_bytes(b"x" * (1 << 20))
        with store.claim(KEY) as out:
            error = full(tmp_path, out)
        assert "bytes are free" in str(error)
        assert "LSBUILD_CACHE" in str(error)
        assert str(tmp_path) in str(error)
        put(store)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


WRITER = """
import sys
from pathlib import Path
from lsbuild.running.store import Meta, Store
root, key, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for index in range(rounds):
    store = Store(root)
    with store.claim(key) as out:
        if store.has(key):
            break
        for name in range(100):
            (out / f"{name}.bin").write_bytes(bytes([name]) * 2_000)
        store.commit(key, out, Meta(step="writer"))
    if index + 1 < rounds:
        store.discard(key)
"""


def writer(root: Path, key: str, rounds: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), key, str(rounds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_kill_at_any_moment_leaves_whole_objects_only(tmp_path: Path) -> None:
    dice = random.Random(7)
    for _ in range(30):
        process = writer(tmp_path, KEY, 100_000)
        time.sleep(dice.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        store = Store(tmp_path)
        assert list((tmp_path / "tmp").iterdir()) == [], "the next build cleans up"
        for place in (tmp_path / "objects").glob("??/*"):
            assert store.has(place.name), "nothing half written stands among the objects"
            assert store.verify(place.name) == []
            store.discard(place.name)
    put(store)
    assert store.verify(KEY) == []


def test_two_builders_of_one_object(tmp_path: Path) -> None:
    builders = [writer(tmp_path, KEY, 1) for _ in range(4)]
    for process in builders:
        process.communicate()
        assert process.returncode == 0
    store = Store(tmp_path)
    assert store.has(KEY)
    assert store.verify(KEY) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_living_builder_is_not_swept_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(KEY) as out:
        (out / "a").write_text("a")
        Store(tmp_path)
        script = f"from pathlib import Path; from lsbuild.running.store import Store; Store(Path({str(tmp_path)!r}))"
        subprocess.run([sys.executable, "-c", script], check=True)
        assert (out / "a").read_text() == "a"
        store.commit(KEY, out, Meta(step="demo"))
    assert store.has(KEY)
