"""``verify`` of target lambda: it boots what was packed under our own Runtime API and AWS's emulator, and finds faults."""

from __future__ import annotations

import json
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Check, File
from lsbuild_targets.aws_lambda import doors, emulator, proof, record
from lsbuild_targets.aws_lambda.options import Options
from lsbuild_targets.aws_lambda.sandbox import Unbootable, start
from lsbuild_targets.aws_lambda.target import TARGET
from lsbuild_targets.aws_lambda.unpack import Sandbox

SIZE = 256 * 64


def ask(base_url: str) -> Iterator[Check]:
    with urllib.request.urlopen(f"{base_url}/v1/health", timeout=30) as response:
        answer = json.load(response)
    yield Check("ask", answer["model"] == SIZE, ", ".join(answer["env"]))


@pytest.fixture(autouse=True)
def no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """None but where a test wants it."""
    monkeypatch.setattr(emulator, "find", lambda: "")


def checks(out: Path) -> dict[str, Check]:
    return {check.name: check for check in proof.verify(out, ask)}


def pack(bundle: Any, options: Options, tmp_path: Path) -> Path:
    return TARGET.pack((bundle,), options, tmp_path / "art").path


def test_it_boots_and_answers_through_a_function_url(
    tmp_path: Path, make_function: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_MINE", "x")
    found = checks(pack(make_function(), options, tmp_path))
    assert all(check.ok for check in found.values()), found
    assert set(found) == {
        "files", "size", "layers", "bootstrap", "native code", "boot", "ask", "response stream",
        "emulator", "not proved",
    }  # fmt: skip
    assert "A_SECRET_OF_MINE" not in found["ask"].detail
    assert "POWERTOOLS_SERVICE_NAME" in found["ask"].detail


def test_it_boots_under_aws_s_emulator(
    tmp_path: Path, make_function: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    if not emulator.find():
        pytest.skip(emulator.TOOL.fault())
    found = checks(pack(make_function(), options, tmp_path))
    assert all(check.ok for check in found.values()), found
    assert {"emulator: ask", "emulator: function URL"} <= set(found)


def test_a_function_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, make_function: Any, options: Options
) -> None:
    found = checks(pack(make_function(main=b"raise SystemExit('no such model')"), options, tmp_path))
    assert not found["boot"].ok
    assert "no such model" in found["boot"].detail


def test_a_function_that_does_not_stream_is_found(tmp_path: Path, make_function: Any, options: Options) -> None:
    (main,) = (file.content for file in make_function().files if file.path.endswith("aws_lambda/main.py"))
    assert isinstance(main, bytes)
    deaf = main.replace(b'"Lambda-Runtime-Function-Response-Mode": "streaming", ', b"")
    found = checks(pack(make_function(main=deaf), options, tmp_path))
    assert found["ask"].ok
    assert not found["response stream"].ok


def test_a_changed_zip_is_found(tmp_path: Path, make_function: Any, options: Options) -> None:
    out = pack(make_function(), options, tmp_path)
    with zipfile.ZipFile(out / "function.zip", "a") as archive:
        archive.writestr("evil.py", "x = 1")
    (check,) = proof.verify(out, ask)
    assert not check.ok
    assert "function.zip" in check.detail


def test_native_code_for_another_machine_is_found_before_booting(
    tmp_path: Path, make_function: Any, options: Options
) -> None:
    arm = b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00" + bytes(44)
    found = checks(pack(make_function(extra=(File("site/x/lib.so", arm, part="wheels"),)), options, tmp_path))
    assert not found["native code"].ok
    assert "64-bit aarch64" in found["native code"].detail
    assert "boot" not in found


def test_a_missing_python_is_a_skip_that_names_it(
    tmp_path: Path, make_function: Any, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    out = pack(make_function(), options, tmp_path)
    assert "set LSBUILD_PYTHON" in checks(out)["boot"].detail


@pytest.mark.parametrize(
    ("arch", "python", "message"),
    [
        ("arm64", "3.13", "qemu-user|needs root"),
        ("arm64", "3.12", "nothing stands in for it"),
        ("x86_64", "3.13", "brings its own"),
    ],
)
def test_a_managed_python_of_another_architecture_says_what_is_missing(
    tmp_path: Path,
    make_function: Any,
    options: Options,
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
    python: str,
    message: str,
) -> None:
    out = pack(make_function(), options.model_copy(update={"arch": arch, "python": python}), tmp_path)
    known = record.read(out)
    assert known is not None
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("LSBUILD_CACHE", str(tmp_path / "cache"))  # where doctor --fetch may have put a QEMU
    monkeypatch.setattr(
        "lsbuild_targets.aws_lambda.sandbox.machine", lambda: "x86_64" if arch == "arm64" else "aarch64"
    )
    with pytest.raises(Unbootable, match=message):
        start(known, Sandbox(tmp_path, tmp_path), tmp_path)


@pytest.mark.parametrize("payload", [b"", b"no json", b"[]", b'{"errorMessage": "m", "errorType": "T"}'])
def test_payloads_that_are_no_answer_are_failures(payload: bytes) -> None:
    with pytest.raises(doors.FunctionFailed):
        doors.answer(payload)


def test_answers_of_both_forms_are_read() -> None:
    whole = doors.answer(
        b'{"statusCode": 201, "headers": {"a": "b"}, "cookies": ["c=1"], "body": "/w==", "isBase64Encoded": true}'
    )
    assert whole == doors.Answer(201, (("a", "b"), ("set-cookie", "c=1")), b"\xff")
    assert doors.answer(b'{"statusCode": 200}' + bytes(8) + b"x") == doors.Answer(200, (), b"x")
