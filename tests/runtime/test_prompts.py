"""Prompts: those of the artifact stay as they are, those of clients have versions that outlive the server."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ogx_client import BadRequestError, NotFoundError, OgxClient

from live_server import serving
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.prompts import FILE_NAME, PromptRef, Prompts, TextValue, declared, render
from runtime_asking import Ask, asked
from small_services import PARROT, small_manifest
from uploading import upload

PATH = "/v1/prompts"
GREET = Service(
    api="prompts", name="greet", provider="inline::prompts", entry="lsbuild_runtime.prompts:open_prompt",
    path="prompts/greet",
)  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> App:
    """An application with one prompt of its own and a state folder."""
    folder = tmp_path / "bundle" / "prompts" / "greet"
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_text("Greet {{name}} in {{ language }}, {{name}}!")
    return App(small_manifest([PARROT, GREET]), tmp_path / "bundle", state=tmp_path / "state")


@pytest.fixture
def tell(site: App) -> Ask:
    """Asks that application."""
    return functools.partial(asked, site)


@pytest.fixture
def ogx(site: App) -> Iterator[Any]:
    """Llama Stack's client of that application."""
    with serving(site) as url, OgxClient(base_url=url, max_retries=0) as opened:
        yield opened


def test_llama_stacks_client_keeps_versions(ogx: Any) -> None:
    made = ogx.prompts.create(prompt="Hello {{who}}", variables=["who"])
    assert (made.version, made.is_default, made.variables) == (1, True, ["who"])
    assert made.prompt_id.startswith("pmpt_")
    again = ogx.prompts.update(made.prompt_id, prompt="Hi {{who}}", version=1, variables=["who"], set_as_default=False)
    assert (again.version, again.is_default) == (2, False)
    assert ogx.prompts.retrieve(made.prompt_id).prompt == "Hello {{who}}"
    assert ogx.prompts.retrieve(made.prompt_id, version=2).prompt == "Hi {{who}}"
    assert ogx.prompts.set_default_version(made.prompt_id, version=2).is_default
    assert ogx.prompts.retrieve(made.prompt_id).version == 2
    assert [(each.version, each.is_default) for each in ogx.prompts.versions.list(made.prompt_id)] == [
        (1, False),
        (2, True),
    ]
    assert [each.prompt_id for each in ogx.prompts.list()] == ["greet", made.prompt_id]
    with pytest.raises(BadRequestError, match="latest version is 2"):
        ogx.prompts.update(made.prompt_id, prompt="late", version=1)
    ogx.prompts.delete(made.prompt_id)
    with pytest.raises(NotFoundError):
        ogx.prompts.retrieve(made.prompt_id)


def test_prompts_outlive_the_server(site: App, tell: Ask) -> None:
    made = tell("POST", PATH, {"prompt": "Hello {{who}}"}).json
    site.close()
    later = App(site.manifest, site.root, state=site.services.state_path)
    assert asked(later, "GET", f"{PATH}/{made['prompt_id']}").json == made
    later.close()


def test_a_prompt_of_the_artifact_is_read_only(tell: Ask) -> None:
    found = tell("GET", f"{PATH}/greet").json
    assert found == {
        "prompt_id": "greet",
        "version": 1,
        "prompt": "Greet {{name}} in {{ language }}, {{name}}!",
        "variables": ["name", "language"],
        "is_default": True,
    }
    assert tell("GET", f"{PATH}/greet/versions").json["data"] == [found]
    assert tell("GET", f"{PATH}/greet", query={"version": "2"}).status == 404
    for method, path, body in (
        ("PUT", f"{PATH}/greet", {"prompt": "x", "version": 1}),
        ("PUT", f"{PATH}/greet/set-default-version", {"version": 1}),
        ("DELETE", f"{PATH}/greet", None),
    ):
        answer = tell(method, path, body)
        assert (answer.status, answer.error["code"]) == (400, "prompt_read_only")


def test_a_server_without_state_says_what_to_do(tmp_path: Path) -> None:
    alone = functools.partial(asked, App(small_manifest([PARROT]), tmp_path))
    assert alone("GET", PATH).json == {"data": []}
    answer = alone("POST", PATH, {"prompt": "x"})
    assert (answer.status, answer.error["code"]) == (503, "no_state")
    assert "--state" in answer.error["message"]


@pytest.mark.parametrize("wheel", ["apsw", "multipart"])
def test_an_artifact_without_the_wheels_of_state_says_what_to_do(
    site: App, monkeypatch: pytest.MonkeyPatch, wheel: str
) -> None:
    monkeypatch.setitem(sys.modules, wheel, None)
    answer = upload(site, "a.txt", "x") if wheel == "multipart" else asked(site, "POST", PATH, {"prompt": "x"})
    assert (answer.status, answer.error["code"]) == (503, "no_state")
    assert "server.state" in answer.error["message"]


def test_looking_makes_no_database(site: App, tell: Ask, tmp_path: Path) -> None:
    assert tell("GET", PATH).status == 200
    assert tell("GET", f"{PATH}/nobody").status == 404
    assert not (tmp_path / "state").exists()
    site.close()


# Filling the places


def test_places_are_filled_once(site: App) -> None:
    values: dict[str, str | TextValue] = {"name": "{{language}}", "language": TextValue("French")}
    assert render(site, PromptRef("greet", "1", values)) == "Greet {{language}} in French, {{language}}!"


@pytest.mark.parametrize(
    ("ref", "status", "param"),
    [
        (PromptRef("greet", None, {"name": "x"}), 400, "prompt.variables.language"),
        (PromptRef("greet", None, {"name": "x", "language": "y", "mood": "z"}), 400, "prompt.variables.mood"),
        (PromptRef("greet", "one"), 400, "prompt.version"),
        (PromptRef("greet", "²"), 400, "prompt.version"),
        (PromptRef("greet", "2"), 404, None),
        (PromptRef("nobody"), 404, None),
        (PromptRef("\ud800"), 404, None),
    ],
)
def test_a_wrong_reference_names_what_is_wrong(site: App, ref: PromptRef, status: int, param: str | None) -> None:
    site.kept(Prompts).create("x", None)
    with pytest.raises(ApiError) as caught:
        render(site, ref)
    assert (caught.value.status, caught.value.param) == (status, param)


def test_variables_are_those_of_the_text_unless_they_are_named() -> None:
    assert declared("{{a}} {{ b }} {{a}} {{1}} {c}", None) == ("a", "b")
    assert declared("{{a}}", ["a", "more"]) == ("a", "more")


WRONG: list[tuple[str, str, Any, str]] = [
    ("POST", PATH, {}, "prompt"),
    ("POST", PATH, {"prompt": ""}, "prompt"),
    ("POST", PATH, {"prompt": 7}, "prompt"),
    ("POST", PATH, {"prompt": "{{a}}", "variables": ["b"]}, "variables"),
    ("POST", PATH, {"prompt": "x", "variables": ["a b"]}, "variables[0]"),
    ("POST", PATH, {"prompt": "x", "variables": ["a", "a"]}, "variables[1]"),
    ("POST", PATH, {"prompt": "x", "name": "y"}, "name"),
    ("PUT", f"{PATH}/x", {"prompt": "x"}, "version"),
    ("PUT", f"{PATH}/x", {"prompt": "x", "version": 0}, "version"),
    ("PUT", f"{PATH}/x/set-default-version", {"version": "1"}, "version"),
]


@pytest.mark.parametrize(("method", "path", "body", "param"), WRONG)
def test_a_wrong_request_names_its_parameter(tell: Ask, method: str, path: str, body: Any, param: str) -> None:
    answer = tell(method, path, body)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize("version", ["0", "x", "²", "9" * 40, "99999999999", ""])
def test_a_wrong_version_is_named(tell: Ask, version: str) -> None:
    answer = tell("GET", f"{PATH}/greet", query={"version": version})
    assert (answer.status, answer.error["param"]) == (400, "version")


JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=3)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["POST", "PUT"]),
    path=st.sampled_from([PATH, f"{PATH}/greet", f"{PATH}/x", f"{PATH}/x/set-default-version"]),
    body=st.dictionaries(st.sampled_from(["prompt", "version", "variables", "set_as_default", "x"]), JSON),
)
def test_whatever_is_sent_the_answer_is_no_5xx(tell: Ask, method: str, path: str, body: Any) -> None:
    assert tell(method, path, body).status < 500
