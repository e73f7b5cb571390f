"""The templates say what the artifact is, and AWS's own checkers find no fault in any form of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lsbuild_targets.aws_lambda import templates
from lsbuild_targets.aws_lambda.record import Record, Zip


def a_record(**more: object) -> Record:
    zips = (
        Zip("function.zip", "function", "c", "s", 1, 1),
        Zip("layer-models.zip", "layer", "c", "s", 1, 1),
    )
    values: dict[str, object] = {
        "name": "small", "package": "zip", "arch": "arm64", "python": "3.13", "runtime": "python3.13", "memory": 2048,
        "timeout": 60, "url": "iam", "stream": True, "snapstart": False, "secrets": (), "zips": zips,
    }  # fmt: skip
    return Record(**{**values, **more})  # type: ignore[arg-type]


FORMS = {
    "managed": a_record(),
    "public": a_record(url="public", secrets=("CLOUD_KEY",), arch="x86_64"),
    "buffered": a_record(stream=False),
    "snapstart": a_record(snapstart=True),
    "no-url": a_record(url="none"),
    "provided": a_record(runtime="provided.al2023"),
    "image": a_record(package="image", runtime="", zips=()),
}


def sam_tools() -> Path:
    """The folder with ``sam`` and ``cfn-lint``; skips when there is none."""
    sam = os.environ.get("LSBUILD_SAM") or shutil.which("sam")
    if not sam:
        pytest.skip("no sam: `make aws` installs it into .venv-aws; set LSBUILD_SAM to .venv-aws/bin/sam")
    return Path(sam).parent


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    words = [sam_tools() / "cfn-lint", "--regions", "eu-central-1", "--", *paths]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_cfn_lint_finds_no_fault_in_any_form_and_would_find_one(tmp_path: Path) -> None:
    paths = []
    for form, record in FORMS.items():
        path = tmp_path / f"{form}.yaml"
        path.write_bytes(templates.sam(record))
        paths.append(path)
    done = lint(*paths)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "wrong.yaml").write_bytes(templates.sam(a_record(memory=99_999)))
    assert lint(tmp_path / "wrong.yaml").returncode != 0


def test_sam_validates_with_its_linter(tmp_path: Path) -> None:
    tool = sam_tools() / "sam"
    (tmp_path / "template.yaml").write_bytes(templates.sam(FORMS["public"]))
    env = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1", "HOME": str(tmp_path)}
    words = [tool, "validate", "--lint", "-t", tmp_path / "template.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a valid SAM Template" in done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_the_invoke_mode_is_one_that_lambda_knows(form: str) -> None:
    """cfn-lint does not look at it."""
    text = templates.sam(FORMS[form]).decode()
    wanted = {"buffered": "BUFFERED", "no-url": ""}.get(form, "RESPONSE_STREAM")
    assert (f"InvokeMode: {wanted}\n" in text) if wanted else ("InvokeMode" not in text)


@pytest.mark.parametrize("form", FORMS)
def test_terraform_refers_only_to_what_it_declares(form: str) -> None:
    import re

    value = json.loads(templates.terraform(FORMS[form]))
    declared = {f"{kind}.{name}" for kind, named in value["resource"].items() for name in named}
    declared |= {f"var.{name}" for name in value["variable"]}
    used = set(re.findall(r"\$\{((?:aws_[a-z_]+|var)\.[a-z_]+)", json.dumps(value)))
    assert used
    assert used <= declared


@pytest.mark.parametrize("form", ["snapstart", "image"])
def test_terraform_validates(form: str, tmp_path: Path) -> None:
    plugins = os.environ.get("LSBUILD_TF_PLUGINS")
    if not shutil.which("terraform") or not plugins:
        pytest.skip("no terraform, or no LSBUILD_TF_PLUGINS: a mirror folder with the provider hashicorp/aws")
    (tmp_path / "main.tf.json").write_bytes(templates.terraform(FORMS[form]))
    for zipped in FORMS[form].zips:
        (tmp_path / zipped.file).write_bytes(b"")
    env = {name: value for name, value in os.environ.items() if name != "TF_CLI_CONFIG_FILE"}
    for words in (["init", f"-plugin-dir={plugins}"], ["validate"]):
        done = subprocess.run(
            ["terraform", *words, "-no-color"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_open_url_has_both_permissions() -> None:
    permissions = json.loads(templates.terraform(FORMS["public"]))["resource"]["aws_lambda_permission"]
    assert {each["action"] for each in permissions.values()} == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert "InvokedViaFunctionUrl: true" in templates.sam(FORMS["public"]).decode()
    assert "aws_lambda_permission" not in json.loads(templates.terraform(FORMS["managed"]))["resource"]


@pytest.mark.parametrize(("secret", "name"), [("CLOUD_KEY", "CloudKey"), ("a", "A"), ("X__Y_1", "XY1")])
def test_parameters_have_names_that_cloudformation_takes(secret: str, name: str) -> None:
    assert templates.parameter(secret) == name
