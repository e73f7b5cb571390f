"""`inline::agent` for the builder: what it refuses, what it ships, what the runtime finds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Item, Service, Source, SourceError, SourceFile, Step, StepContext
from lsbuild.spec.model import Agent
from lsbuild_plugins.agent.plugin import PLUGIN, write_instructions
from lsbuild_runtime.agents.service import settings_of
from lsbuild_runtime.tools import file_search


def item(**spec: Any) -> Item:
    """An agent of a spec."""
    return Item("agents", "helper", "inline::agent", Agent(**{"model": "chat", **spec}), Path("spec"))


def source(path: Path) -> Source:
    """The source of one file."""
    data = path.read_bytes()
    return Source("./helper.md", (SourceFile(path.name, path, hashlib.sha256(data).hexdigest(), len(data)),))


def ran(compiled: Compiled, root: Path) -> Service:
    """Run the one step below ``root`` as the bundle has it; the service."""
    (step,), (service,) = compiled.steps, compiled.services
    out = root / step.ship
    out.mkdir(parents=True)
    write_instructions(StepContext(out, step.options, step.sources, {}, lambda _done, _total, _label: None))
    return service


def test_instructions_in_the_spec_reach_the_runtime(tmp_path: Path) -> None:
    agent = item(instructions="Be kind.", vector_stores=("docs",), limits={"passages": 2, "tokens": 9, "wall": "3s"})
    chat = Service(api="inference", name="chat", provider="p", entry="e", metadata={"context_length": 99, "x": 1})
    compiled = PLUGIN.compile(agent, Given({}, {("models", "chat"): Compiled(services=(chat,))}))
    service = ran(compiled, tmp_path)
    assert (service.api, service.path, service.needs) == (
        "agents",
        "agents/helper",
        ("inference/chat", "vector_io/docs"),
    )
    assert service.metadata == {
        "model_type": "llm",
        "sampling": {"temperature": 0.0},
    }  # its model's own join in the bundle
    settings = settings_of(service, tmp_path)
    assert (settings.instructions, settings.model, settings.vector_stores) == ("Be kind.", "chat", ("docs",))
    assert (settings.passages, settings.tokens, settings.wall) == (2, 9, 3.0)
    assert settings.prompt == "{passages}\n{question}"


def test_instructions_in_a_file_are_a_source(tmp_path: Path) -> None:
    path = tmp_path / "helper.md"
    path.write_text("Be kind.\nBe brief.\n", encoding="utf-8")
    agent = item(instructions="prompts/helper.md")
    assert PLUGIN.sources(agent) == {"instructions": "prompts/helper.md"}
    service = ran(PLUGIN.compile(agent, Given({"instructions": source(path)})), tmp_path / "out")
    assert settings_of(service, tmp_path / "out").instructions == "Be kind.\nBe brief."


def test_a_text_that_mentions_a_file_is_no_path() -> None:
    assert PLUGIN.sources(item(instructions="Read it,\nthen answer from notes.md")) == {}
    assert PLUGIN.sources(item()) == {}


def test_instructions_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "helper.md"
    path.write_bytes(b"na\xefve")
    with pytest.raises(SourceError, match="not UTF-8"):
        ran(PLUGIN.compile(item(instructions="helper.md"), Given({"instructions": source(path)})), tmp_path / "out")


def test_an_agent_refers_to_its_model_and_stores_and_what_it_calls() -> None:
    agent = item(vector_stores=("a", "b"), tools=("file_search", "pump"), agents=("clerk",))
    assert list(PLUGIN.refers(agent)) == [
        ("models", "chat"),
        ("vector_stores", "a"),
        ("vector_stores", "b"),
        ("tools", "pump"),
        ("agents", "clerk"),
    ]


def test_tools_and_their_limits_reach_the_runtime(tmp_path: Path) -> None:
    limits = {"steps": 4, "calls": 7, "total_tokens": 900}
    agent = item(
        vector_stores=("docs",),
        tools=("pump", "file_search"),
        agents=("clerk",),
        tainted=("pump.start",),
        limits=limits,
    )
    compiled = PLUGIN.compile(agent, Given({}))
    service = ran(compiled, tmp_path)
    assert service.needs == ("inference/chat", "vector_io/docs", "tool_runtime/pump", "agents/clerk")
    assert compiled.wheels == ("jsonschema>=4.23",)
    settings = settings_of(service, tmp_path)
    assert (settings.tools, settings.agents, settings.tainted) == (("pump", "file_search"), ("clerk",), ("pump.start",))
    assert (settings.steps, settings.calls, settings.total_tokens) == (4, 7, 900)


def test_without_tools_nothing_more_ships() -> None:
    compiled = PLUGIN.compile(item(), Given({}))
    assert compiled.wheels == ()
    assert "steps" not in compiled.services[0].config


def test_the_model_may_be_an_agent_which_others_can_read_about() -> None:
    agent = item(model="clerk", description="Helps.")
    peers = {("agents", "clerk"): Compiled()}
    (service,) = PLUGIN.compile(agent, Given({}, peers)).services
    assert service.needs == ("agents/clerk",)
    assert service.metadata["description"] == "Helps."


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"config": {"promt": "x"}}, ("config", "promt")),
        ({"config": {"threshold": 2}}, ("config", "threshold")),
        ({"config": {"temperature": -1}}, ("config", "temperature")),
        ({"config": {"prompt": "{passages}"}, "vector_stores": ("a",)}, ("config", "prompt")),
        ({"config": {"prompt": "{question}"}, "vector_stores": ("a",)}, ("config", "prompt")),
        ({"config": {"prompt": "{passages} {question}"}}, ("config", "prompt")),
        ({"config": {"search": "first"}, "vector_stores": ("a",)}, ("config", "search")),
        ({"config": {"search": "first"}, "tools": ("units",)}, ("config", "search")),
    ],
)
def test_faults_in_the_config_are_found(spec: dict[str, Any], path: tuple[str, ...]) -> None:
    assert [problem.path for problem in PLUGIN.check(item(**spec))] == [path]


def test_a_right_config_has_no_faults_and_reaches_the_service() -> None:
    config = {"prompt": "{passages} {question}", "threshold": 0.3, "temperature": 0.7, "keep_lines": True}
    agent = item(config=config, vector_stores=("a",))
    assert list(PLUGIN.check(agent)) == []
    (service,) = PLUGIN.compile(agent, Given({})).services
    assert (service.config["prompt"], service.config["threshold"], service.config["keep_lines"]) == (
        "{passages} {question}",
        0.3,
        True,
    )
    assert service.metadata["sampling"] == {"temperature": 0.7}


def model(name: str, *needs: str) -> Compiled:
    """A model that is built here, or with ``needs`` one that others stand for."""
    step = Step("", "onnx:prompted", {"model": name}, needs={"model": f"models.{name}.graph"}, ship=f"grammars/{name}")
    entry = Service(api="inference", name=name, provider="p", entry="e", needs=needs)
    return Compiled(services=(entry,), prompted=None if needs else step)


def told(agent: Item, **peers: Compiled) -> list[Step]:
    """The steps of what ``agent`` tells its models; the names of peers are ``kind__name``."""
    given = Given({}, {tuple(path.split("__")): each for path, each in peers.items()})  # type: ignore[misc]
    return list(PLUGIN.compile(agent, given).steps[1:])


def test_a_model_that_is_built_here_sees_at_build_what_the_agent_will_tell_it() -> None:
    pump = {"name": "start", "description": "Starts.", "parameters": {"type": "object"}}
    agent = item(
        instructions=" Be kind.\n",
        tools=("pump", "file_search", "loose"),
        agents=("clerk",),
        vector_stores=("docs",),
        config={"prompt": "Read:\n{passages}\nSay: {question}"},
        limits={"passages": 4, "tokens": 9},
    )
    docs = Compiled(steps=(Step("p", "lsbuild_plugins.documents.passages:run", {"tokens": 64}),))
    clerk = PLUGIN.compile(Item("agents", "clerk", "inline::agent", Agent(model="chat"), Path()), Given({}))
    (step,) = told(
        agent,
        models__chat=model("chat"),
        tools__pump=Compiled(functions=(pump,)),
        tools__loose=Compiled(),
        agents__clerk=clerk,
        vector_stores__docs=docs,
    )
    assert (step.name, step.ship) == ("agents.helper.prompt-chat", "grammars/chat/helper")
    assert (step.run, step.needs) == ("onnx:prompted", {"model": "models.chat.graph"})
    functions = step.options["functions"]
    assert [each["name"] for each in functions] == ["start", "file_search", "clerk"]
    assert functions[1]["parameters"] == file_search.INFO.parameters
    assert step.options["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Read:\n\nSay: "},
    ]
    assert (step.options["model"], step.options["passages"], step.options["answer"]) == ("chat", 256, 9)


def test_an_agent_without_tools_ships_no_grammar() -> None:
    (step,) = told(item(), models__chat=model("chat"))
    assert (step.ship, step.options["functions"]) == ("", [])


def test_all_models_of_a_route_and_the_model_of_an_agent_are_told() -> None:
    route = model("chat", "inference/small", "inference/cloud")
    peers = {"models__chat": route, "models__small": model("small"), "models__cloud": Compiled()}
    assert [step.name for step in told(item(), **peers)] == ["agents.helper.prompt-small"]
    clerk = Item("agents", "clerk", "inline::agent", Agent(model="chat"), Path())
    inner = PLUGIN.compile(clerk, Given({}, {("models", "chat"): route}))
    outer = told(item(model="clerk"), agents__clerk=inner, **peers)
    assert [step.name for step in outer] == ["agents.helper.prompt-small"]
