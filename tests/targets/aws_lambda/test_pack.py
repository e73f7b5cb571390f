"""What target lambda writes and refuses: options, zips with layers, limits, images, byte-identical packs."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lsbuild.api import Bundle, File, Platform, Service, TargetError
from lsbuild.packing.oci_read import images
from lsbuild_targets.aws_lambda import options as limits
from lsbuild_targets.aws_lambda import record, target
from lsbuild_targets.aws_lambda.options import Options
from lsbuild_targets.aws_lambda.target import TARGET
from small_rootfs import with_base


def pack(bundle: Bundle, options: Options, out: Path) -> Path:
    return TARGET.pack((bundle,), options, out).path


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_platform_is_amazon_linux_2023() -> None:
    assert TARGET.platforms(Options()) == (Platform("x86_64", "3.13", "2.34", level=3),)
    assert TARGET.platforms(Options.model_validate({"arch": "aarch64", "python": "3.12"}))[0].arch == "aarch64"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"python": "3.11"}, "glibc older than 2.34"),
        ({"python": "3.10"}, "pattern"),
        ({"python": "3.12", "package": "image"}, "3.13 or 3.11, not 3.12"),
        ({"snapstart": True}, "snapstart needs package: zip"),
        ({"snapstart": True, "package": "zip", "runtime": "provided"}, "snapstart needs"),
        ({"memory": 64}, "128"),
        ({"timeout": 901}, "900"),
        ({"arch": "armv7l"}, "arm64"),
        ({"memroy": 512}, "memroy"),
        ({"namespace": "a b"}, "pattern"),
    ],
)
def test_options_that_lambda_would_refuse_are_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Options.model_validate(value)


def test_only_what_is_needed_is_fetched() -> None:
    platform = TARGET.platforms(Options())[0]
    assert set(TARGET.sources(Options(), platform)) == {"tools", "debs"}
    assert set(TARGET.sources(Options(package="zip"), platform)) == {"tools"}
    other = Options(python="3.12")
    assert TARGET.sources(other, TARGET.platforms(other)[0]) == {}


def test_function_and_layers_are_zips_of_their_own(tmp_path: Path, make_function: Any, options: Options) -> None:
    index = File("indexes/docs/index.db", b"index", part="index", component="docs")
    out = pack(make_function(extra=(index,)), options, tmp_path / "art")
    assert "lsbuild/models/chat/model.bin" in names(out / "layer-models.zip")
    assert names(out / "layer-wheels.zip") == ["lsbuild/site/wheel/data.txt"]
    assert names(out / "layer-indexes.zip") == ["lsbuild/indexes/docs/index.db"]
    function = names(out / "function.zip")
    assert function == sorted(function)
    assert {"bootstrap", "lambda.json", "manifest.json", "app/lsbuild_runtime/__init__.py"} <= set(function)
    with zipfile.ZipFile(out / "function.zip") as archive:
        modes = {entry.filename: stat.S_IMODE(entry.external_attr >> 16) for entry in archive.infolist()}
        assert modes.pop("bootstrap") == 0o755
        assert set(modes.values()) == {0o644}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert sorted(path.name for path in out.iterdir()) == [
        "artifact.json", "function.zip", "layer-indexes.zip", "layer-models.zip", "layer-wheels.zip", "main.tf.json",
        "template.yaml",
    ]  # fmt: skip


def test_a_folder_of_two_parts_is_not_divided(tmp_path: Path, make_function: Any, options: Options) -> None:
    small = File("models/chat/prompt.txt", b"x", part="app")
    out = pack(make_function(extra=(small,)), options, tmp_path / "art")
    assert "lsbuild/models/chat/prompt.txt" in names(out / "layer-models.zip")


def test_a_change_of_code_changes_the_function_alone(tmp_path: Path, make_function: Any, options: Options) -> None:
    one = pack(make_function(), options, tmp_path / "one")
    two = pack(make_function(extra=(File("app/more.py", b"x = 1\n"),)), options, tmp_path / "two")
    before, after = record.read(one), record.read(two)
    assert before is not None
    assert after is not None
    assert before.layers == after.layers
    assert before.function.sha256 != after.function.sha256


def test_unchanged_zips_are_taken_over_and_damaged_ones_are_not(
    tmp_path: Path, make_function: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = pack(make_function(), options, tmp_path / "art")
    whole = (out / "layer-models.zip").read_bytes()
    (out / "layer-models.zip").write_bytes(whole[:-1] + b"!")
    written: list[str] = []
    write = target.write_zip
    monkeypatch.setattr(target, "write_zip", lambda path, *rest: (written.append(path.name), write(path, *rest)))
    pack(make_function(), options, out)
    assert written == ["layer-models.zip"]
    assert (out / "layer-models.zip").read_bytes() == whole


def test_two_packs_are_identical_whatever_path_umask_clock_and_user(
    tmp_path: Path, make_function: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = TARGET.pack((make_function(),), options, tmp_path / "one")
    before = os.umask(0o077)
    try:
        monkeypatch.setenv("TZ", "Pacific/Auckland")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USER", "somebody")
        for path in tmp_path.rglob("*"):
            if path.is_file() and "one" not in path.parts:
                os.utime(path, (1, 1))
        two = TARGET.pack((make_function(),), options, tmp_path / "deep" / "two")
    finally:
        os.umask(before)
    assert one.sha256 == two.sha256
    assert {path.stat().st_mode & 0o777 for path in two.path.rglob("*")} == {0o644}


def test_it_says_how_far_the_limit_is(tmp_path: Path, make_function: Any, options: Options) -> None:
    assert "262.1 MB below the limit" in TARGET.pack((make_function(),), options, tmp_path / "art").media


def test_too_much_for_a_zip_names_the_largest_files_before_anything_is_written(
    tmp_path: Path, make_function: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNZIPPED", 10_000)
    with pytest.raises(TargetError, match=r"more than Lambda's 10,000") as refused:
        pack(make_function(), options, tmp_path / "art")
    assert "models/chat/model.bin" in refused.value.hint
    assert not (tmp_path / "art").exists()


def test_auto_becomes_an_image_when_zips_are_too_large(
    tmp_path: Path, make_function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_base(make_function(), tmp_path / "base")
    assert (pack(bundle, Options(), tmp_path / "zip") / "function.zip").exists()
    monkeypatch.setattr(limits, "UNZIPPED", 10_000)
    made = TARGET.pack((bundle,), Options(), tmp_path / "image")
    assert "more than zip files may have" in made.media
    assert sorted(path.name for path in made.path.iterdir()) == [
        "artifact.json",
        "main.tf.json",
        "oci",
        "template.yaml",
    ]
    assert TARGET.layout(made.path) == made.path / "oci", "which `lsbuild push` takes to ECR"
    (image,) = images(made.path / "oci")
    assert image.config["config"]["Entrypoint"][0] == "/usr/bin/python3.13"
    assert [manifest.name for manifest in TARGET.manifests(made.path)] == ["small"]
    template = (made.path / "template.yaml").read_text()
    assert "PackageType: Image" in template


def test_too_much_for_an_image_is_refused(tmp_path: Path, make_function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGE", 10_000)
    with pytest.raises(TargetError, match="Lambda takes 10,000"):
        pack(with_base(make_function(), tmp_path / "base"), Options(package="image"), tmp_path / "art")


def test_a_python_of_our_own_lies_in_a_layer(tmp_path: Path, make_function: Any) -> None:
    options = Options(package="zip", runtime="provided")
    out = pack(with_base(make_function(), tmp_path / "base"), options, tmp_path / "art")
    library = "lsbuild/python/usr/lib/x86_64-linux-gnu"
    found = names(out / "layer-python.zip")
    assert f"{library}/libz.so.1" in found
    assert f"{library}/libz.so.1.3" not in found  # the same bytes, under a name that nobody asks for
    assert "lsbuild/python/usr/share/doc/zlib1g/copyright" in found
    with zipfile.ZipFile(out / "function.zip") as archive:
        start = archive.read("bootstrap").decode()
    assert 'exec "$libraries/ld-linux-x86-64.so.2" --library-path' in start
    known = record.read(out)
    assert known is not None
    assert known.runtime == "provided.al2023"
    assert "AWS_LAMBDA_EXEC_WRAPPER" not in known.environment


def test_a_mutable_store_inside_is_refused_with_the_way_out(
    tmp_path: Path, make_function: Any, options: Options
) -> None:
    store = Service(api="vector_io", name="notes", provider="inline::x", entry="m:f", metadata={"mutable": True})
    with pytest.raises(TargetError, match="keeps nothing between two sandboxes") as refused:
        pack(make_function(services=(store,)), options, tmp_path / "art")
    assert "targets.lambda.vector_stores.notes.mutable: false" in refused.value.hint
    remote = Service(
        api="vector_io", name="notes", provider="remote::pgvector", entry="m:f", metadata={"mutable": True}
    )
    pack(make_function(services=(remote,)), options, tmp_path / "art")


def services() -> tuple[Service, ...]:
    return (
        Service(api="embeddings", name="embed", provider="inline::x", entry="m:f"),
        Service(
            api="inference",
            name="cloud",
            provider="remote::x",
            entry="m:f",
            config={"api_key": {"secret": "CLOUD_KEY"}},
        ),
    )


def settings(out: Path) -> dict[str, Any]:
    with zipfile.ZipFile(out / "function.zip") as archive:
        value: dict[str, Any] = json.loads(archive.read("lambda.json"))
        return value


def test_what_is_compiled_in_is_opened_before_the_first_event(
    tmp_path: Path, make_function: Any, options: Options
) -> None:
    bundle = make_function(services=services())
    assert settings(pack(bundle, options, tmp_path / "a"))["preload"] == ["embeddings/embed"]
    chosen = options.model_copy(update={"preload": ("cloud",), "rest_stream": True})
    made = settings(pack(bundle, chosen, tmp_path / "b"))
    assert made == {"namespace": "lsbuild", "preload": ["inference/cloud"], "stream": ["function-url", "rest-api"]}
    with pytest.raises(TargetError, match="'embde' is nothing that this spec serves"):
        pack(bundle, options.model_copy(update={"preload": ("embde",)}), tmp_path / "c")


def test_secrets_become_parameters_that_are_not_shown(tmp_path: Path, make_function: Any, options: Options) -> None:
    out = pack(make_function(services=services()), options, tmp_path / "art")
    template = (out / "template.yaml").read_text()
    assert "CloudKey:\n    Type: String\n    NoEcho: true" in template
    terraform = json.loads((out / "main.tf.json").read_bytes())
    assert terraform["variable"]["cloud_key"]["sensitive"] is True
    variables = terraform["resource"]["aws_lambda_function"]["function"]["environment"]["variables"]
    assert variables["CLOUD_KEY"] == "${var.cloud_key}"


def test_a_record_of_another_kind_is_not_ours(tmp_path: Path) -> None:
    assert TARGET.manifests(tmp_path) == ()
    (tmp_path / "artifact.json").write_text('{"target": "moon"}')
    assert TARGET.manifests(tmp_path) == ()
