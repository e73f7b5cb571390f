"""Deploying to moto's Lambda: layers once, versions, an alias that moves to what answered, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Deployment, File, TargetError, VerifyError
from lsbuild.delivery import deploying
from lsbuild_targets.aws_lambda import options as limits
from lsbuild_targets.aws_lambda.options import Options
from lsbuild_targets.aws_lambda.target import TARGET

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

REGION = "eu-central-1"
WELL = json.dumps({"statusCode": 200, "body": '{"status":"OK"}'})
UNWELL = json.dumps({"statusCode": 503, "body": '{"error":{"message":"set the environment variable KEY"}}'})
CRASHED = json.dumps({"errorType": "Runtime.ExitError", "errorMessage": "exit status 10"})


class Cloud:
    """moto's account, what the next invocations answer, and what was said."""

    def __init__(self) -> None:
        from moto.awslambda_simple.models import lambda_simple_backends

        self.client = boto3.client("lambda", region_name=REGION)
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        role = boto3.client("iam").create_role(RoleName="function", AssumeRolePolicyDocument=trust)
        self.role: str = role["Role"]["Arn"]
        self.answers: list[str] = lambda_simple_backends["123456789012"][REGION].lambda_simple_results_queue
        self.said: list[str] = []

    def deploy(self, artifact: Path, *answers: str, **more: Any) -> dict[str, Any]:
        self.answers[:] = answers
        self.said.clear()
        order = Deployment(**{"region": REGION, "role": self.role, **more})
        return dict(deploying.deploy(artifact, "lambda", order, self.said.append))

    @property
    def live(self) -> str:
        return str(self.client.get_alias(FunctionName="small", Name="live")["FunctionVersion"])


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with moto.mock_aws(config={"lambda": {"use_docker": False}}):
        yield Cloud()


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, make_function: Any) -> Make:
    """``make(*files, **options)``: an artifact."""

    def artifact(*files: File, services: Any = (), **options: Any) -> Path:
        chosen = Options(package="zip", **options)
        return TARGET.pack((make_function(extra=files, services=services),), chosen, tmp_path / "art").path

    return artifact


CHANGED = File("app/more.py", b"x = 1\n")


def test_the_first_deployment_makes_everything(cloud: Cloud, make: Make) -> None:
    found = cloud.deploy(make(memory=1024), WELL, WELL)
    assert (found["function"], found["version"], found["before"]) == ("small", "1", "")
    assert found["url"].startswith("https://")
    assert cloud.live == "1"
    function = cloud.client.get_function_configuration(FunctionName="small", Qualifier="live")
    assert (function["Runtime"], function["Handler"], function["MemorySize"]) == ("python3.13", "bootstrap", 1024)
    assert function["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"] == "/var/task/bootstrap"
    assert len(function["Layers"]) == 2
    url = cloud.client.get_function_url_config(FunctionName="small", Qualifier="live")
    assert (url["AuthType"], url["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")


def test_a_change_of_code_sends_no_layer_again_and_moves_the_alias(cloud: Cloud, make: Make) -> None:
    cloud.deploy(make(), WELL, WELL)
    found = cloud.deploy(make(CHANGED), WELL, WELL)
    assert (found["version"], found["before"]) == ("2", "1")
    assert "layer-models.zip: is there already" in cloud.said
    assert len(cloud.client.list_layer_versions(LayerName="small-models")["LayerVersions"]) == 1


@pytest.mark.parametrize("answer", [UNWELL, CRASHED])
def test_a_version_that_does_not_answer_never_becomes_live(cloud: Cloud, make: Make, answer: str) -> None:
    cloud.deploy(make(), WELL, WELL)
    with pytest.raises(VerifyError, match="small:2 is not ready"):
        cloud.deploy(make(CHANGED), answer)
    assert cloud.live == "1"


def test_an_alias_that_does_not_answer_is_put_back(cloud: Cloud, make: Make) -> None:
    cloud.deploy(make(), WELL, WELL)
    with pytest.raises(VerifyError, match="small:live is not ready"):
        cloud.deploy(make(CHANGED), WELL, UNWELL)
    assert cloud.live == "1"


def test_a_first_deployment_that_fails_leaves_no_alias(cloud: Cloud, make: Make) -> None:
    with pytest.raises(VerifyError):
        cloud.deploy(make(), WELL, CRASHED)
    with pytest.raises(cloud.client.exceptions.ResourceNotFoundException):
        cloud.client.get_alias(FunctionName="small", Name="live")


def test_a_rollback_goes_back_once(cloud: Cloud, make: Make) -> None:
    cloud.deploy(make(), WELL, WELL)
    artifact = make(CHANGED)
    cloud.deploy(artifact, WELL, WELL)
    assert cloud.deploy(artifact, rollback=True)["version"] == "1"
    assert cloud.live == "1"
    with pytest.raises(TargetError, match="no version to go back to"):
        cloud.deploy(artifact, rollback=True)


def secret() -> Any:
    from lsbuild.api import Service

    return (
        Service(api="inference", name="m", provider="remote::x", entry="m:f", config={"key": {"secret": "CLOUD_KEY"}}),
    )


def test_a_missing_secret_is_named_and_one_that_is_there_is_kept(cloud: Cloud, make: Make) -> None:
    artifact = make(services=secret())
    with pytest.raises(TargetError, match="the function needs CLOUD_KEY") as refused:
        cloud.deploy(artifact, WELL, WELL)
    assert "--env CLOUD_KEY" in refused.value.hint
    cloud.deploy(artifact, WELL, WELL, environment={"CLOUD_KEY": "k1"})
    cloud.deploy(make(CHANGED, services=secret()), WELL, WELL)
    function = cloud.client.get_function_configuration(FunctionName="small")
    assert function["Environment"]["Variables"]["CLOUD_KEY"] == "k1"


def test_a_new_function_needs_a_role(cloud: Cloud, make: Make) -> None:
    with pytest.raises(TargetError, match="there is no function 'small' yet") as refused:
        cloud.deploy(make(), role="")
    assert "--role" in refused.value.hint


def test_large_files_go_through_a_bucket(cloud: Cloud, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DIRECT", 100)
    artifact = make()
    with pytest.raises(TargetError, match="100 may be sent directly") as refused:
        cloud.deploy(artifact)
    assert "--bucket" in refused.value.hint
    s3 = boto3.client("s3", region_name=REGION)
    s3.create_bucket(Bucket="parts", CreateBucketConfiguration={"LocationConstraint": REGION})
    cloud.deploy(artifact, WELL, WELL, bucket="parts")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="parts")["Contents"]]
    assert len(keys) == 3
    assert all(key.startswith("lsbuild/small/") for key in keys)


def test_what_aws_refuses_is_one_sentence(cloud: Cloud, make: Make) -> None:
    with pytest.raises(TargetError, match="AWS refused CreateFunction"):
        cloud.deploy(make(), role="arn:aws:iam::123456789012:role/nobody")


def test_a_public_url_is_opened(cloud: Cloud, make: Make) -> None:
    cloud.deploy(make(url="public"), WELL, WELL)
    policy = json.loads(cloud.client.get_policy(FunctionName="small", Qualifier="live")["Policy"])
    actions = {statement["Action"] for statement in policy["Statement"]}
    assert actions == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}


def test_an_artifact_of_another_target_is_not_deployed(tmp_path: Path, make_bundle: Any) -> None:
    from lsbuild_targets.host import TARGET as HOST
    from lsbuild_targets.host import Options as HostOptions

    out = HOST.pack((make_bundle(),), HostOptions(), tmp_path / "host").path
    with pytest.raises(TargetError, match="of target host, not lambda"):
        deploying.deploy(out, "lambda", Deployment(), print)
    with pytest.raises(TargetError, match="not deployed from here"):
        deploying.deploy(out, None, Deployment(), print)


def test_variables_come_from_the_command_or_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "1")
    assert deploying.order(["HERE", "A=b=c"]).environment == {"HERE": "1", "A": "b=c"}
    monkeypatch.delenv("HERE")
    with pytest.raises(TargetError, match="HERE is not set here"):
        deploying.order(["HERE"])
