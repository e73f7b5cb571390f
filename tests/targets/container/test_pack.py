"""The container target without a network: the layout it writes, read back by us and by skopeo, and what verify finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
from pydantic import ValidationError

from base_images import PYTHON, base_layout, digest_of
from lsbuild.api import Bundle, Check, File, Platform, Source, StepContext, TargetError
from lsbuild.errors import LsbuildError
from lsbuild.lock import Lock
from lsbuild.packing import elf
from lsbuild.packing.archive import ZIP_EPOCH, Member, with_folders, write_tar
from lsbuild.packing.base_image import BaseImage, examine, write
from lsbuild.packing.bundle_image import ROOT
from lsbuild.packing.oci_read import check_blobs, images
from lsbuild.running.monitor import Silent
from lsbuild.sources import resolve
from lsbuild_targets.container.options import ImageBase, Options
from lsbuild_targets.container.target import TARGET

MakeBundle = Callable[..., Bundle]
ELF = {"x86_64": b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00", "aarch64": b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00"}


@pytest.fixture
def bundles(tmp_path: Path, make_bundle: MakeBundle) -> Callable[..., tuple[Bundle, ...]]:
    """A small bundle for each platform of the options, with a base of a few files."""

    def make(options: Options | None = None, extra: tuple[File, ...] = ()) -> tuple[Bundle, ...]:
        made = []
        for platform in TARGET.platforms(options or Options()):
            folder = tmp_path / f"rootfs-{platform.arch}"
            folder.mkdir(exist_ok=True)
            base = [Member("usr/bin/python3.13", ELF[platform.arch], 0o755), Member("bin", link="usr/bin")]
            with (folder / "rootfs.tar").open("wb") as stream:
                write_tar(stream, with_folders([*base, Member("tmp", mode=0o1777)]), ZIP_EPOCH)
            bundle = make_bundle(platform, extra=extra)
            made.append(Bundle(platform, bundle.manifest, bundle.files, {"rootfs": folder}))
        return tuple(made)

    return make


MakeBundles = Callable[..., tuple[Bundle, ...]]


def blob(layout: Path, entry: dict[str, Any]) -> Any:
    return json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_bytes())


def manifests(layout: Path) -> list[dict[str, Any]]:
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return [blob(layout, each) for each in blob(layout, entry)["manifests"]]


def no_question(_: str) -> Iterator[Check]:
    return iter(())


def test_platforms_follow_the_suite() -> None:
    assert TARGET.platforms(Options()) == (Platform("x86_64", "3.13", "2.41"), Platform("aarch64", "3.13", "2.41"))
    old = Options(arch=("arm64",), base=ImageBase(suite="bookworm"))
    assert TARGET.platforms(old) == (Platform("aarch64", "3.11", "2.36"),)


@pytest.mark.parametrize(
    "options",
    [
        {"arch": []},
        {"arch": ["amd64", "amd64"]},
        {"arch": ["armv7"]},
        {"user": 0},
        {"tag": "No Spaces:1"},
        {"tag": "untagged"},
        {"base": {"suite": "sid"}},
        {"base": {"mirror": "file:///srv/debian"}},
        {"shell": True},
        {"base": {"python": "3.12"}},
        {"base": {"image": "docker://registry.example/base"}},
        {"base": {"image": "oci://registry.example/base:1"}},
        {"base": {"image": "oci:./base", "python": "2.7"}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_an_image_as_base_is_a_source_for_each_platform() -> None:
    options = Options(base=ImageBase(image=f"oci://registry.example/base@sha256:{'a' * 64}", python="3.12"))
    platforms = TARGET.platforms(options)
    assert platforms == (Platform("x86_64", "3.12", "2.28"), Platform("aarch64", "3.12", "2.28"))
    uris = [TARGET.sources(options, platform) for platform in platforms]
    assert uris == [{"base": f"{options.base.image}#linux/{arch}"} for arch in ("amd64", "arm64")]
    known = TARGET.sources(Options(base=ImageBase(image="oci:./base")), Platform("x86_64", "3.13", "2.28"))
    assert known["base"] == "oci:./base#linux/amd64"
    assert known["tools"].startswith("debian:trixie/"), "which compiles the bytecode"


def test_ours_is_laid_upon_the_layers_of_a_base(tmp_path: Path, bundles: MakeBundles) -> None:
    options = Options(arch=("amd64",), base=ImageBase(image="oci:./base"))
    base = base_layout(tmp_path / "base", PYTHON, {"etc/more": b"x"})
    found = resolve(
        ["oci:./base#linux/amd64"], root=tmp_path, lock=Lock(), cache=tmp_path / "cache", offline=True, locked=False,
        monitor=Silent(),
    )["oci:./base#linux/amd64"]  # fmt: skip
    (tmp_path / "examined").mkdir()
    step = TARGET.steps(options, TARGET.platforms(options)[0], {"base": found})["base"]
    examine(StepContext(tmp_path / "examined", step.options, step.sources, {}, lambda *_: None))
    (bundle,) = bundles(options)
    out = TARGET.pack((replace(bundle, extras={"base": tmp_path / "examined"}),), options, tmp_path / "art").path
    (ours,), (below,) = images(out / "image"), images(base)
    assert ours.layers[:2] == below.layers
    settings = ours.config["config"]
    assert settings["Entrypoint"][0] == settings["Healthcheck"]["Test"][1] == "/usr/local/bin/python3.13"
    assert settings["Env"] == ["PATH=/usr/local/bin:/usr/bin", "KEPT=1", "LANG=C.UTF-8", "HOME=/tmp"]
    assert settings["Labels"]["org.opencontainers.image.base.digest"] == digest_of(base)
    (tmp_path / "root").mkdir()
    ours.unpack(tmp_path / "root")
    assert (tmp_path / "root/etc/more").read_bytes() == b"x"
    assert (tmp_path / "root" / ROOT / "manifest.json").is_file()


def test_a_base_without_a_library_that_a_wheel_needs_is_refused(tmp_path: Path, bundles: MakeBundles) -> None:
    options = Options(arch=("amd64",), base=ImageBase(image="oci:./base"))
    native = next(path for path in Path(apsw.__file__).parent.glob("*.so"))
    (tmp_path / "examined").mkdir()
    below = BaseImage("oci:./base", "sha256:0", "/usr/bin/python3.13", "2.41", (), (), ("libc.so.6",))
    write(tmp_path / "examined", below)
    (bundle,) = bundles(options, (File("site/apsw/native.so", native, part="wheels"),))
    wanted = set(elf.needed(native)) - {"libc.so.6"}
    assert wanted, "the test has nothing to look for"
    packed = replace(bundle, extras={"base": tmp_path / "examined"})
    with pytest.raises(TargetError, match=r"site/apsw/native\.so needs lib.*, and the base has none") as caught:
        TARGET.pack((packed,), options, tmp_path / "art")
    assert caught.value.where == "targets.container.base.image"
    assert not (tmp_path / "art").exists()
    write(tmp_path / "examined", replace(below, libraries=("libc.so.6", *wanted)))
    TARGET.pack((packed,), options, tmp_path / "art")


def test_the_mirror_of_the_spec_reaches_the_source() -> None:
    options = Options(base=ImageBase(mirror="http://mirror.example/debian"))
    uris = TARGET.sources(options, TARGET.platforms(options)[1])
    assert uris["debs"].startswith("debian:trixie/arm64?python3.13-minimal,")
    assert uris["debs"].endswith("#mirror=http://mirror.example/debian")


def test_steps_are_pure_and_name_what_they_need() -> None:
    platform = Platform("aarch64", "3.13", "2.41")
    empty = Source("debian:x", ())
    steps = TARGET.steps(Options(), platform, {"debs": empty, "tools": empty})
    assert steps["rootfs"].options["user"] == 65532
    assert steps["rootfs"].ship == ""
    assert {name: dict(step.needs) for name, step in steps.items() if step.needs} in (
        {
            "bytecode-app": {"code": "app.linux-aarch64-cp313"},
            "bytecode-site": {"code": "wheels.linux-aarch64-cp313"},
        },
        {},
    )


def test_the_layout_has_an_index_over_both_platforms(tmp_path: Path, bundles: MakeBundles) -> None:
    out = TARGET.pack(bundles(), Options(), tmp_path / "art").path
    layout = out / "image"
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "latest"
    platforms = [each["platform"] for each in blob(layout, entry)["manifests"]]
    assert platforms == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]
    assert check_blobs(layout) == len(list((layout / "blobs/sha256").iterdir()))


def test_layers_are_ordered_by_how_rarely_they_change(tmp_path: Path, bundles: MakeBundles) -> None:
    layout = TARGET.pack(bundles(), Options(), tmp_path / "art").path / "image"
    for image in images(layout):
        comments = [layer["comment"] for layer in image.config["history"]]
        assert comments == ["Debian trixie", "Python packages", "models", "code and manifest"]
    first, second = images(layout)
    assert first.layers[2] == second.layers[2], "the models of both platforms are one blob"


def test_a_change_of_code_changes_one_layer(tmp_path: Path, bundles: MakeBundles) -> None:
    one = images(TARGET.pack(bundles(), Options(), tmp_path / "one").path / "image")[0].layers
    changed = bundles(extra=(File("app/more.py", b"x = 1\n"),))
    two = images(TARGET.pack(changed, Options(), tmp_path / "two").path / "image")[0].layers
    assert [before == after for before, after in zip(one, two, strict=True)] == [True, True, True, False]


def test_the_configuration_confines_the_server(tmp_path: Path, bundles: MakeBundles) -> None:
    layout = TARGET.pack(bundles(), Options(), tmp_path / "art").path / "image"
    config = images(layout)[0].config
    settings = config["config"]
    assert config["created"] == "1980-01-01T00:00:00Z"
    assert settings["User"] == "65532:65532"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["ExposedPorts"] == {"8321/tcp": {}}
    assert settings["Entrypoint"][:4] == ["/usr/bin/python3.13", "-I", "-S", "-B"]
    assert settings["Entrypoint"][-6:] == ["--root", f"/{ROOT}", "--host", "0.0.0.0", "--port", "8321"]
    assert settings["Healthcheck"]["Test"][:2] == ["CMD", "/usr/bin/python3.13"]


@pytest.mark.parametrize("arches", [("amd64", "arm64"), ("arm64",)])
def test_what_deploys_it_names_what_a_registry_will_have(
    tmp_path: Path, bundles: MakeBundles, arches: tuple[Any, ...]
) -> None:
    options = Options(arch=arches, tag="registry.example/team/small:1.0")
    out = TARGET.pack(bundles(options), options, tmp_path / "art").path
    name = f"registry.example/team/small@{digest_of(out / 'image')}"
    for file in ("kubernetes.yaml", "knative.yaml", "kserve.yaml", "compose.yaml"):
        assert f"image: {name}\n" in (out / file).read_text()


def test_two_packs_are_identical_whatever_the_umask(tmp_path: Path, bundles: MakeBundles) -> None:
    one = TARGET.pack(bundles(), Options(), tmp_path / "one")
    before = os.umask(0o077)
    try:
        two = TARGET.pack(bundles(), Options(), tmp_path / "two")
    finally:
        os.umask(before)
    assert one.sha256 == two.sha256
    assert {path.stat().st_mtime for path in one.path.rglob("*")} == {float(ZIP_EPOCH)}


def test_packing_over_an_older_artifact_gives_the_same_bytes(tmp_path: Path, bundles: MakeBundles) -> None:
    fresh = TARGET.pack(bundles(), Options(), tmp_path / "fresh").sha256
    out = tmp_path / "art"
    TARGET.pack(bundles(extra=(File("app/old.py", b""),)), Options(), out)
    assert TARGET.pack(bundles(), Options(), out).sha256 == fresh


def test_a_damaged_older_layer_is_not_taken_over(tmp_path: Path, bundles: MakeBundles) -> None:
    out = tmp_path / "art"
    good = TARGET.pack(bundles(), Options(), out).sha256
    for path in (out / "image/blobs/sha256").iterdir():
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert TARGET.pack(bundles(), Options(), out).sha256 == good


def test_a_foreign_folder_is_not_replaced(tmp_path: Path, bundles: MakeBundles) -> None:
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "letter").write_text("keep")
    with pytest.raises(TargetError, match="not an artifact"):
        TARGET.pack(bundles(), Options(), tmp_path / "art")


def test_a_name_that_no_registry_takes_is_refused_before_writing(tmp_path: Path, bundles: MakeBundles) -> None:
    odd = tuple(
        Bundle(
            each.platform,
            type(each.manifest)(**{**_fields(each.manifest), "name": "ends-with-"}),
            each.files,
            each.extras,
        )
        for each in bundles()
    )
    with pytest.raises(TargetError, match=r"set targets\.container\.tag"):
        TARGET.pack(odd, Options(), tmp_path / "art")
    assert not (tmp_path / "art").exists()
    TARGET.pack(odd, Options(tag="team/assistant:1.0"), tmp_path / "art")


def _fields(manifest: Any) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


def test_the_docker_archive_holds_one_platform_and_docker_s_manifest(tmp_path: Path, bundles: MakeBundles) -> None:
    out = TARGET.pack(bundles(), Options(archives=("arm64",)), tmp_path / "art").path
    assert [path.name for path in out.glob("*.docker.tar")] == ["small-arm64.docker.tar"]
    with tarfile.open(out / "small-arm64.docker.tar") as tar:
        names = set(tar.getnames())
        reader = tar.extractfile("manifest.json")
        assert reader is not None
        (entry,) = json.load(reader)
    assert entry["RepoTags"] == ["small:latest"]
    assert {entry["Config"], *entry["Layers"], "index.json", "oci-layout"} <= names


def test_manifests_are_read_from_the_image(tmp_path: Path, bundles: MakeBundles) -> None:
    out = TARGET.pack(bundles(), Options(), tmp_path / "art").path
    assert [manifest.platform for manifest in TARGET.manifests(out)] == ["linux-x86_64-cp313", "linux-aarch64-cp313"]
    assert TARGET.manifests(tmp_path) == ()


def test_verify_names_a_damaged_blob(tmp_path: Path, bundles: MakeBundles) -> None:
    out = TARGET.pack(bundles(), Options(), tmp_path / "art").path
    victim = max((out / "image/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes() + b"x")
    (check,) = TARGET.verify(out, no_question)
    assert not check.ok
    assert victim.name in check.detail


def test_verify_names_a_native_file_of_the_wrong_machine(tmp_path: Path, bundles: MakeBundles) -> None:
    options = Options(arch=("arm64",))
    extra = (File("site/wheel/wrong.so", ELF["x86_64"] + bytes(64), part="wheels"),)
    out = TARGET.pack(bundles(options, extra), options, tmp_path / "art").path
    checks = {check.name: check for check in TARGET.verify(out, no_question)}
    assert not checks["arm64 files"].ok
    assert "wrong.so is 64-bit code for machine 62, not 64-bit for 183 (aarch64)" in checks["arm64 files"].detail


def test_verify_says_when_it_cannot_boot(tmp_path: Path, bundles: MakeBundles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    out = TARGET.pack(bundles(), Options(), tmp_path / "art").path
    checks = {check.name: check for check in TARGET.verify(out, no_question)}
    assert checks["amd64 files"].ok, checks
    assert checks["amd64 boot"].state == "skipped"
    assert checks["amd64 boot"].detail.startswith("NOT booted")


def test_a_layer_that_is_not_what_the_configuration_says_is_found(tmp_path: Path, bundles: MakeBundles) -> None:
    image, _ = images(TARGET.pack(bundles(), Options(), tmp_path / "art").path / "image")
    swapped = type(image)(image.root, image.arch, image.config, ((image.layers[0][0], "sha256:" + "0" * 64),))
    (tmp_path / "root").mkdir()
    with pytest.raises(LsbuildError, match="its configuration says sha256:0000"):
        swapped.unpack(tmp_path / "root")


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_skopeo_reads_the_layout(tmp_path: Path, bundles: MakeBundles, arch: str) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    out = TARGET.pack(bundles(), Options(archives=("amd64", "arm64")), tmp_path / "art").path
    seen = []
    for name in (f"oci:{out}/image:latest", f"docker-archive:{out}/small-{arch}.docker.tar"):
        done = subprocess.run(
            [skopeo, "inspect", "--override-arch", arch, "--config", name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(done.stdout))
    assert [config["architecture"] for config in seen] == [arch, arch]
    assert seen[0]["rootfs"] == seen[1]["rootfs"]
    copy = tmp_path / "copy"
    copied = [
        skopeo,
        "--override-arch",
        arch,
        "copy",
        "-q",
        f"docker-archive:{out}/small-{arch}.docker.tar",
        f"dir:{copy}",
    ]
    done = subprocess.run(copied, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
