"""Images to build upon: fetched from a registry, a layout or an archive, looked into, and laid below ours."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from base_images import LIBC, PYTHON, base_layout, digest_of
from image_registry import registry
from lsbuild.api import Source, StepContext, StepError
from lsbuild.distribution.client import Host
from lsbuild.distribution.known import Known
from lsbuild.distribution.push import push
from lsbuild.distribution.reference import parse
from lsbuild.errors import OfflineError, SourceError
from lsbuild.lock import Lock
from lsbuild.packing import base_image, layer
from lsbuild.packing.oci_read import images
from lsbuild.running.monitor import Silent
from lsbuild.sources import resolve

Fetch = Callable[..., Source]


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """``fetch(uri)`` as a build would, with a spec in ``tmp_path``."""

    def fetched(uri: str, lock: Lock | None = None, *, offline: bool = False) -> Source:
        return resolve(
            [uri],
            root=tmp_path,
            lock=lock or Lock(),
            cache=tmp_path / "cache",
            offline=offline,
            locked=False,
            monitor=Silent(),
        )[uri]

    return fetched


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def examined(source: Source, out: Path, **options: str) -> base_image.BaseImage:
    out.mkdir()
    chosen = {"python": "3.13", "glibc": "2.28", **options}
    base_image.examine(StepContext(out, chosen, {"base": source}, {}, lambda *_: None))
    return base_image.read(out)


def pushed(layout: Path, to: str, cache: Path) -> str:
    named = parse(to)
    return push(layout, named, Host(named.host), Known(cache, named.host), lambda _: None).image


def test_a_registry_gives_the_platform_by_digest_and_the_lock_keeps_it(host: str, tmp_path: Path, fetch: Fetch) -> None:
    layout = base_layout(tmp_path / "base", arches=("amd64", "arm64"))
    uri = f"oci://{pushed(layout, f'{host}/base:1', tmp_path / 'known')}#linux/arm64"
    found = fetch(uri)
    arm = next(image for image in images(layout) if image.arch == "arm64")
    assert found.revision != digest_of(layout)
    assert [file.sha256 for file in found.files if file.path.startswith("layers/")] == [
        blob.digest.removeprefix("sha256:") for blob, _ in arm.layers
    ]
    config = found.file("config.json")
    assert config is not None
    assert json.loads(config.location.read_bytes())["architecture"] == "arm64"
    locked = Lock().merged({uri: found})
    assert fetch(uri, locked, offline=True) == found, "with the lock no registry is asked"


def test_layout_and_archive_give_the_same_layers(tmp_path: Path, fetch: Fetch) -> None:
    layout = base_layout(tmp_path / "base")
    (image,) = images(layout)
    whole = fetch(f"oci:./base@{digest_of(layout)}#linux/amd64")
    archive(layout, tmp_path / "base.tar")
    other = fetch("oci:./base.tar#linux/amd64")
    assert [file.sha256 for source in (whole, other) for file in source.files if file.path == "layers/000"] == [
        image.layers[0][0].digest.removeprefix("sha256:")
    ] * 2
    plain = archive(layout, tmp_path / "plain.tar", plain=True)
    found = examined(fetch("oci:./plain.tar#linux/amd64"), tmp_path / "out")
    assert found.layers[0].media.endswith(".tar")
    assert found.layers[0].diff_id == image.layers[0][1]
    assert plain.stat().st_size > 0


def test_a_layout_that_changed_since_it_was_locked_is_read_again(tmp_path: Path, fetch: Fetch) -> None:
    uri = "oci:./base#linux/amd64"
    base_layout(tmp_path / "base")
    before = fetch(uri)
    shutil.rmtree(tmp_path / "base")
    base_layout(tmp_path / "base", {**PYTHON, "etc/new": b"x"})
    after = fetch(uri, Lock().merged({uri: before}))
    assert after.revision != before.revision


def archive(layout: Path, path: Path, *, times: int = 1, plain: bool = False) -> Path:
    """A docker-archive with layers as they are, or plain ones, as ``docker save`` wrote them before version 25."""
    (image,) = images(layout)
    config = json.dumps(image.config).encode()
    entry = {"Config": "config.json", "RepoTags": ["base:1"], "Layers": ["0/layer.tar"]}
    blob = layout / "blobs" / image.layers[0][0].digest.replace(":", "/")
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("manifest.json", json.dumps([entry] * times).encode()),
            ("config.json", config),
            ("0/layer.tar", gzip.decompress(blob.read_bytes()) if plain else blob.read_bytes()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("oci://{host}/base:1#linux/amd64", "has no digest"),
        ("oci://{host}/absent@sha256:" + "0" * 64 + "#linux/amd64", "has no sha256:0000"),
        ("oci://base@{digest}#linux/amd64", "names no registry"),
        ("oci://127.0.0.1:9/base@{digest}#linux/amd64", "does not answer"),
        ("oci:./nowhere#linux/amd64", "no such image"),
        ("oci:./base@sha256:abc#linux/amd64", "no digest"),
        ("oci:./base@sha256:" + "0" * 64 + "#linux/amd64", "the layout has no sha256:0000"),
        ("oci:./base#linux/arm64", "is for linux/amd64, not for linux/arm64"),
        ("oci:./spec.yaml#linux/amd64", "no docker-archive"),
        ("oci:./two.tar#linux/amd64", "holds 2 images"),
        ("oci:./empty#linux/amd64", "no image layout"),
    ],
)
def test_what_cannot_be_built_upon_is_refused(
    host: str, tmp_path: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    monkeypatch.setattr("lsbuild.distribution.client._BACKOFF_S", 0.0)
    layout = base_layout(tmp_path / "base")
    (tmp_path / "spec.yaml").write_text("version: 1\n")
    (tmp_path / "empty").mkdir()
    archive(layout, tmp_path / "two.tar", times=2)
    with pytest.raises(SourceError, match=said):
        fetch(uri.format(host=host, digest=digest_of(layout)))


def test_offline_needs_the_cache(tmp_path: Path, fetch: Fetch) -> None:
    with pytest.raises(OfflineError):
        fetch(f"oci://registry.example/base@sha256:{'0' * 64}#linux/amd64", offline=True)


def test_python_and_glibc_are_found_through_links_and_whiteouts(tmp_path: Path, fetch: Fetch) -> None:
    merged = {
        "lib": "-> usr/lib",
        "bin": "-> usr/bin",
        "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
        "usr/bin/python3.12": b"\x7fELF",
        "usr/bin/python3.13": b"\x7fELF",
        "usr/lib/python3.12/os.py": b"",
        "usr/lib/python3.13/os.py": b"",
        "opt/own/bin/python3.13": "-> /usr/bin/python3.13",
    }
    above = {"usr/bin/.wh.python3.12": b"", "usr/lib/python3.12/.wh..wh..opq": b"", "etc/new": b""}
    base_layout(tmp_path / "base", merged, above)
    source = fetch("oci:./base#linux/amd64")
    found = examined(source, tmp_path / "out")
    assert (found.python, found.glibc, len(found.layers)) == ("/usr/bin/python3.13", "2.41", 2)
    assert found.env == ("PATH=/usr/local/bin:/usr/bin", "LANG=C", "KEPT=1")
    with pytest.raises(StepError, match=r"has Python 3\.13, and it is compiled for 3\.12") as caught:
        examined(source, tmp_path / "other", python="3.12")
    assert "base.python" in caught.value.hint


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({}, {"python": "3.11"}, r"Python 3\.13, and it is compiled for 3\.11"),
        ({}, {"glibc": "2.42"}, r"glibc 2\.41, and it is compiled for 2\.42"),
        ({"usr/local/bin/python3.13": None}, {}, "no Python"),
        ({"usr/local/lib/python3.13/os.py": None}, {}, "no standard library"),
        ({"usr/local/bin/python3.13": "-> python3.99"}, {}, "compiled for"),
        ({"usr/local/bin/python3.13": "-> python3.13"}, {}, "compiled for"),
        ({"lib/x86_64-linux-gnu/libc.so.6": None}, {}, "no C library"),
        ({"lib/x86_64-linux-gnu/libc.so.6": None, "lib/ld-musl-x86_64.so.1": b""}, {}, "musl"),
    ],
)
def test_a_base_that_cannot_run_it_is_refused(
    tmp_path: Path, fetch: Fetch, files: dict[str, Any], options: dict[str, str], said: str
) -> None:
    wanted = {path: content for path, content in {**PYTHON, **files}.items() if content is not None}
    base_layout(tmp_path / "base", wanted)
    with pytest.raises(StepError, match=said):
        examined(fetch("oci:./base#linux/amd64"), tmp_path / "out", **options)


def tar(path: Path, *members: tuple[str, bytes, bytes | str]) -> Path:
    """A plain layer of (name, tar type, content or target)."""
    with tarfile.open(path, "w") as out:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if isinstance(content, str):
                info.linkname = content
            info.size = len(content) if isinstance(content, bytes) else 0
            out.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


FILE, FOLDER, LINK, HARD, DEVICE = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE


def test_layers_are_laid_over_each_other_as_a_runtime_does(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    low = tar(
        tmp_path / "low",
        ("./a/one", FILE, b"1"), ("a/two", FILE, b"2"), ("b/old", FILE, b"3"), ("a/also", HARD, "a/one"),
        ("was/folder/x", FILE, b""), ("dev/null", DEVICE, b""), ("link", LINK, "/a/one"),
    )  # fmt: skip
    high = tar(
        tmp_path / "high",
        ("a/.wh.two", FILE, b""), ("b/new", FILE, b"4"), ("b/.wh..wh..opq", FILE, b""), ("was/folder", FILE, b"now a file"),
        ("link", FILE, b"now a file"),
    )  # fmt: skip
    layer.unpack(low, root, "low")
    assert (root / "a/one").stat().st_ino == (root / "a/also").stat().st_ino
    layer.unpack(high, root, "high")
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()) == [
        "a/also", "a/one", "b/new", "link", "was/folder"
    ]  # fmt: skip
    assert (root / "link").read_bytes() == b"now a file"


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_layer_is_read_in_every_compression(tmp_path: Path, packed: str) -> None:
    if shutil.which(packed) is None:
        pytest.skip(f"{packed} is not installed")
    plain = tar(tmp_path / "plain", ("a", FILE, bytes(100_000)))
    with (tmp_path / "packed").open("wb") as out:
        subprocess.run([packed, "-qc", plain], stdout=out, check=True)
    found = set()
    for name in ("plain", "packed"):
        (tmp_path / f"{name}-root").mkdir()
        found.add(layer.unpack(tmp_path / name, tmp_path / f"{name}-root", name))
        assert (tmp_path / f"{name}-root/a").stat().st_size == 100_000
    assert found == {f"sha256:{hashlib.sha256(plain.read_bytes()).hexdigest()}"}
    (tmp_path / "cut").write_bytes((tmp_path / "packed").read_bytes()[:-20])
    with pytest.raises(SourceError):
        layer.unpack(tmp_path / "cut", tmp_path / "plain-root", "cut")


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", FILE, b"x")],
        [("a", LINK, "../outside"), ],
        [("a", LINK, "/tmp"), ("a/x", FILE, b"x")],
        [("a", HARD, "../../etc/passwd")],
        [("a", HARD, "absent")],
        [("l", LINK, "/etc/hostname"), ("a", HARD, "l")],
        [("x/device", DEVICE, b"")],
        [("a/.wh...", FILE, b"")],
    ],
)  # fmt: skip
def test_a_hostile_layer_is_refused_and_nothing_is_written_outside(tmp_path: Path, members: list[Any]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(SourceError, match="refused"):
        layer.unpack(tar(tmp_path / "evil", *members), root, "evil")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil", "root"]


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_cut_layer_is_an_error(tmp_path: Path, cut: int) -> None:
    (tmp_path / "cut").write_bytes(b"\x1f\x8b\x08\x00" + bytes(cut))
    with pytest.raises(SourceError, match="not a readable layer"):
        layer.unpack(tmp_path / "cut", tmp_path / "root", "cut")
