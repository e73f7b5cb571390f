"""A route as a real artifact: a cloud that is not there, and the model of this machine behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from artifact_tools import Lsbuild, booted, compiled

SPEC = {
    "name": "routed",
    "models": {
        "chat": {"type": "llm", "source": "builtin://tiny-agent"},
        "cloud": {
            "type": "llm",
            "provider": "remote::openai",
            "config": {"base_url": "${env.CLOUD_URL:=http://127.0.0.1:9/v1}", "model": "large"},
        },
        "best": {"type": "llm", "route": [{"model": "cloud", "timeout": "5s"}, {"model": "chat"}]},
    },
}


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routed")
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    return compiled(lsbuild, folder / "spec.yaml", folder / "out")


@pytest.fixture(scope="module")
def client(artifact: Path) -> Iterator[openai.OpenAI]:
    with (
        booted(artifact) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as found,
    ):
        yield found


def test_verify_does_not_leave_the_machine(lsbuild: Lsbuild, artifact: Path) -> None:
    done = lsbuild("verify", artifact, "--json")
    assert done.code == 0, done.out
    details = {check["name"]: check["detail"] for check in done.json["checks"]}
    assert details["inference best"] == "not asked: it would leave this machine"


def test_the_model_of_this_machine_answers_when_the_cloud_is_away(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="best", messages=[{"role": "user", "content": "What is this about?"}], max_tokens=8
    )
    assert raw.headers["x-lsbuild-attempts"] == "cloud=error, chat=ok"
    assert raw.headers["x-lsbuild-model"] == "chat"
    assert raw.parse().choices[0].message.content


def test_clients_see_what_the_route_can_do(client: openai.OpenAI) -> None:
    found = {model.id: model.to_dict() for model in client.models.list()}
    assert found["best"]["custom_metadata"]["route"] == ["cloud", "chat"]  # type: ignore[index]
    assert "context_length" not in found["best"]["custom_metadata"]  # type: ignore[operator]
