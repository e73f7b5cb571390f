"""``lsbuild push`` of an image: what it prints, and what it refuses by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from base_images import base_layout, digest_of
from image_registry import registry
from lsbuild import cli
from lsbuild.api import Bundle
from lsbuild.packing import base_image
from lsbuild.packing.oci_read import images
from lsbuild_targets import host
from lsbuild_targets.container.options import ImageBase, Options
from lsbuild_targets.container.target import TARGET

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def artifact(tmp_path: Path, make_bundle: MakeBundle) -> Path:
    """An image for one architecture upon a base of three files."""
    options = Options(arch=("amd64",), base=ImageBase(image="oci:./base"))
    (below,) = images(base_layout(tmp_path / "base"))
    folder = tmp_path / "examined"
    (folder / "layers").mkdir(parents=True)
    (blob, diff_id), *_ = below.layers
    (folder / "layers/000").write_bytes((below.root / "blobs" / blob.digest.replace(":", "/")).read_bytes())
    layer = base_image.BaseLayer("layers/000", blob.media, blob.digest, blob.size, diff_id)
    made = base_image.BaseImage("oci:./base", digest_of(below.root), "/usr/local/bin/python3.13", "2.41", (), (layer,))
    base_image.write(folder, made)
    bundle = make_bundle(TARGET.platforms(options)[0])
    bundle = Bundle(bundle.platform, bundle.manifest, bundle.files, {"base": folder})
    return TARGET.pack((bundle,), options, tmp_path / "art").path


def run(tmp_path: Path, *words: str | Path) -> Result:
    environ = {"HOME": str(tmp_path), "LSBUILD_CACHE": str(tmp_path / "cache"), "DOCKER_CONFIG": str(tmp_path)}
    return CliRunner().invoke(cli.main, ["push", *map(str, words)], env=environ)


def test_it_prints_the_name_that_the_image_is_pulled_by(artifact: Path, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as address:
        done = run(tmp_path, f"{address}/team/small", artifact, "--json")
        assert done.exit_code == 0, done.output
        again = run(tmp_path, f"{address}/team/small:2", artifact)
    found = json.loads(done.stdout)
    assert found["image"] == f"{address}/team/small@{digest_of(artifact / 'image')}"
    assert (found["tag"], found["mounted"], found["there"]) == ("latest", 0, 0)
    assert again.stdout.splitlines()[0] == found["image"]
    assert f"{address}/team/small:2 is {found['digest']}" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("small:1",), 7, "names no registry"),
        (("Registry.example/Small:1",), 7, "is not the name of an image"),
        (("127.0.0.1:9/small:1", "--option", "Port=22"), 2, "--option has no meaning here"),
        (("127.0.0.1:9/small:1", "--no-follow"), 2, "--follow has no meaning here"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    artifact: Path, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run(tmp_path, words[0], artifact, *words[1:])
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_an_artifact_without_an_image_has_no_registry(tmp_path: Path, make_bundle: MakeBundle) -> None:
    made = host.TARGET.pack((make_bundle(),), host.TARGET.Options(), tmp_path / "host").path
    done = run(tmp_path, "registry.example/small:1", made, "--plain-http")
    assert done.exit_code == 2
    assert "--plain-http has no meaning here" in done.output
    assert run(tmp_path, "registry.example/small:1", made).exit_code == 7
