"""The image of a function on its way to ECR: moto's account, and a real registry where it says that the repository is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_registry import registry
from lsbuild.api import Deployment, TargetError
from lsbuild.delivery import deploying
from lsbuild.distribution.errors import DistributionError
from lsbuild.packing.oci_read import published
from lsbuild_targets.aws_lambda import ecr
from lsbuild_targets.aws_lambda.options import Options
from lsbuild_targets.aws_lambda.target import TARGET
from small_rootfs import with_base

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

REGION, ACCOUNT = "eu-central-1", "123456789012"
WELL = json.dumps({"statusCode": 200, "body": '{"status":"OK"}'})


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("LSBUILD_CACHE", str(tmp_path / "cache"))
    with moto.mock_aws(config={"lambda": {"use_docker": False}}):
        yield


@pytest.fixture
def artifact(tmp_path: Path, make_function: Any) -> Path:
    return TARGET.pack(
        (with_base(make_function(), tmp_path / "base"),), Options(package="image"), tmp_path / "art"
    ).path


def repository_at(address: str, name: str = "small") -> None:
    """A repository of the account that lies in the registry at ``address``."""
    from moto.ecr.models import ecr_backends

    boto3.client("ecr", region_name=REGION).create_repository(repositoryName=name)
    ecr_backends[ACCOUNT][REGION].repositories[name].uri = f"{address}/{name}"


def deploy(artifact: Path, said: list[str], **more: Any) -> dict[str, Any]:
    from moto.awslambda_simple.models import lambda_simple_backends

    lambda_simple_backends[ACCOUNT][REGION].lambda_simple_results_queue[:] = [WELL, WELL]
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = boto3.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    order = Deployment(region=REGION, role=role, **more)
    return dict(deploying.deploy(artifact, "lambda", order, said.append))


def test_the_image_is_pushed_and_named_by_its_digest(tmp_path: Path, artifact: Path) -> None:
    digest = published(artifact / "oci").top.digest
    said: list[str] = []
    with registry(tmp_path / "registry") as address:
        repository_at(address)
        found = deploy(artifact, said)
        assert f"{address}/small:{digest[7:19]} is {digest}" in said
        again: list[str] = []
        ecr.push(boto3.client("ecr", region_name=REGION), artifact / "oci", "small", again.append)
        assert not [line for line in again if line.endswith(" MB")], "what is there already was sent again"
    assert (found["function"], found["version"]) == ("small", "1")
    code = boto3.client("lambda", region_name=REGION).get_function(FunctionName="small")["Code"]
    assert code["ImageUri"] == f"{address}/small@{digest}"


def test_an_image_that_was_pushed_before_is_taken_as_it_is(artifact: Path) -> None:
    uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mine@sha256:{'0' * 64}"
    said: list[str] = []
    assert deploy(artifact, said, image=uri)["version"] == "1"
    assert boto3.client("ecr", region_name=REGION).describe_repositories()["repositories"] == []


def test_a_missing_repository_is_made_and_a_registry_out_of_reach_is_one_sentence(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("ecr", region_name=REGION)
    seen: dict[str, Any] = {}

    def refuse(_layout: Path, to: Any, host: Any, *_: Any) -> Any:
        seen.update(to=str(to), login=host.login)
        raise DistributionError("is out of reach")

    monkeypatch.setattr(ecr.pushes, "push", refuse)
    said: list[str] = []
    with pytest.raises(TargetError, match="is out of reach"):
        ecr.push(client, artifact / "oci", "My_Function", said.append)
    assert said == ["create the repository my-function in ECR"]
    assert [each["repositoryName"] for each in client.describe_repositories()["repositories"]] == ["my-function"]
    assert seen["to"].startswith(f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/my-function:")
    assert seen["login"].user == "AWS" and seen["login"].password


@pytest.mark.parametrize(
    ("function", "name"), [("assistant", "assistant"), ("My_Function-2", "my-function-2"), ("_x_", "lsbuild-x")]
)
def test_names_of_functions_become_names_of_repositories(function: str, name: str) -> None:
    assert ecr.repository_name(function) == name
