"""Planning: keys, order and reasons, and that it touches nothing."""

from __future__ import annotations

import builtins
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Compiled, Given, Item, Plugin, Source, SourceFile, Step, StepError
from lsbuild.errors import SpecError
from lsbuild.facts import Facts, code_hash, gather, home
from lsbuild.plan import Plan, compile_items, plan
from lsbuild.spec.model import Model

FACTS = Facts(code={"demo": "c0de", "other": "0ld"}, tools={"onnx": "1.22", "numpy": "2.4"})


def source(uri: str = "./models/a", **files: str) -> Source:
    listed = [SourceFile(name.replace("_", "."), Path("/x") / name, sha, 1) for name, sha in files.items()]
    return Source(uri, tuple(listed))


def step(name: str = "models.a", **rest: Any) -> Step:
    return Step(name=name, run="demo:run", code=("demo",), **rest)


def key(one: Step, facts: Facts = FACTS) -> str:
    return plan([one], facts=facts, known=lambda _: False, previous={}).steps[0].key


def again(before: Plan, steps: list[Step], facts: Facts = FACTS) -> list[str]:
    known = {planned.key for planned in before.steps}
    now = plan(steps, facts=facts, known=known.__contains__, previous=before.records)
    return [planned.reason for planned in now.steps]


def first(steps: list[Step]) -> Plan:
    return plan(steps, facts=FACTS, known=lambda _: False, previous={})


def test_planning_touches_neither_disk_nor_network_nor_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the planner looked outside")

    for owner, name in ((builtins, "open"), (socket, "socket"), (Path, "open"), (Path, "stat"), (Path, "read_bytes")):
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr("os.stat", refuse)
    monkeypatch.setattr("time.time", refuse)
    monkeypatch.setattr("subprocess.Popen", refuse)
    steps = [step("b", needs={"x": "a"}), step("a", sources={"s": source(a_md="1")}, tools=("onnx",))]
    before = first(steps)
    assert again(before, steps) == ["cached", "cached"]


def test_steps_come_after_what_they_need() -> None:
    steps = [step("c", needs={"x": "b", "y": "a"}), step("b", needs={"x": "a"}), step("a")]
    planned = first(steps)
    assert [each.step.name for each in planned.steps] == ["a", "b", "c"]
    assert [each.reason for each in planned.steps] == ["not built before"] * 3
    assert planned.missing == planned.steps
    assert planned.step("b").step is steps[1]
    with pytest.raises(KeyError):
        planned.step("z")


BASE = step(options={"quantize": "int4"}, sources={"s": source(a_md="1")}, tools=("onnx",))


@pytest.mark.parametrize(
    ("other", "facts"),
    [
        (replace(BASE, run="demo:other"), FACTS),
        (replace(BASE, options={"quantize": "int8"}), FACTS),
        (replace(BASE, options={"quantize": "int4", "x": None}), FACTS),
        (replace(BASE, sources={"s": source(a_md="2")}), FACTS),
        (replace(BASE, sources={"s": source(b_md="1")}), FACTS),
        (replace(BASE, sources={"t": source(a_md="1")}), FACTS),
        (replace(BASE, code=("other",)), FACTS),
        (replace(BASE, tools=("onnx", "numpy")), FACTS),
        (BASE, replace(FACTS, code={"demo": "new"})),
        (BASE, replace(FACTS, tools={"onnx": "1.23"})),
    ],
)
def test_everything_a_step_reads_is_in_its_key(other: Step, facts: Facts) -> None:
    assert key(other, facts) != key(BASE)


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, name="models.b"),
        replace(BASE, ship="models/b", part="index"),
        replace(BASE, sources={"s": replace(source(a_md="1"), uri="./elsewhere")}),
        replace(BASE, options=dict(reversed({"quantize": "int4"}.items()))),
    ],
)
def test_what_it_does_not_read_is_not(other: Step) -> None:
    assert key(other) == key(BASE)


def test_keys_chain() -> None:
    def last(value: int) -> str:
        steps = [step("a", options={"v": value}), step("b", needs={"x": "a"}), step("c", needs={"x": "b"})]
        return first(steps).step("c").key

    assert last(1) != last(2)
    assert last(1) == last(1)


def test_reasons_name_what_changed() -> None:
    a = step(
        "a", options={"quantize": "int4"}, sources={"s": source("docs/*.md", faq_md="1", old_md="1")}, tools=("onnx",)
    )
    b = step("b", needs={"x": "a"})
    before = first([a, b])
    assert again(before, [replace(a, options={"quantize": "int8"}), b]) == [
        "options changed: quantize",
        "needs a, which runs again",
    ]
    changed = replace(a, sources={"s": source("docs/*.md", faq_md="2", new_md="1")})
    assert again(before, [changed, b])[0] == "faq.md changed; new.md added; old.md removed"
    assert again(before, [a, b], replace(FACTS, code={"demo": "new"}))[0] == "demo changed"
    assert again(before, [a, b], replace(FACTS, tools={"onnx": "1.23"}))[0] == "onnx 1.22 -> 1.23"
    assert again(before, [replace(a, run="demo:new"), b])[0] == "demo:run -> demo:new"
    assert again(before, [a, step("c")]) == ["cached", "not built before"]
    many = replace(a, options={"x": 1}, sources={"s": source("docs/*.md", a_md="1", b_md="2")})
    assert again(before, [many, b])[0].endswith("; 2 more")


def test_files_of_a_folder_are_named_with_it() -> None:
    def reason(uri: str) -> str:
        before = first([step("a", sources={"s": source(uri, config_json="1")})])
        return again(before, [step("a", sources={"s": source(uri, config_json="2")})])[0]

    assert reason("./models/m") == "models/m/config.json changed"
    assert reason("./models/m/config.json") == "models/m/config.json changed"
    assert reason("./config.json") == "config.json changed"
    assert reason("models/*.json") == "config.json changed"
    assert reason("documents") == "config.json changed"
    assert reason("pypi://name==1.0") == "pypi://name==1.0/config.json changed"


def test_an_output_that_left_the_cache() -> None:
    before = first([step("a")])
    now = plan([step("a")], facts=FACTS, known=lambda _: False, previous=before.records)
    assert now.steps[0].reason == "its output is gone from the cache"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step("a"), step("a")], "two steps have this name"),
        ([step("a", needs={"x": "bb"}), step("b")], "needs bb, which is not a step of this build"),
        ([step("a", needs={"x": "b"}), step("b", needs={"x": "a"})], "which needs it in turn"),
        ([step("a", options={"x": object()})], "an option is not a JSON value"),
        ([step("a", options={"x": float("nan")})], "an option is not a JSON value"),
    ],
)
def test_faults_of_a_plugin_are_step_errors(steps: list[Step], message: str) -> None:
    with pytest.raises(StepError, match=message):
        first(steps)


class Plain:
    """A plugin in a test: refers to what the model's config says."""

    provider = "inline::plain"
    kinds: tuple[str, ...] = ("models",)

    def check(self, item: Item) -> list[Any]:  # noqa: ARG002 - the name is the protocol's
        return []

    def refers(self, item: Item) -> list[tuple[str, str]]:
        assert isinstance(item.spec, Model)
        return [("models", name) for name in item.spec.config.get("refers", [])]

    def sources(self, item: Item) -> dict[str, str]:
        return {"weights": f"./{item.name}"}

    def compile(self, item: Item, given: Given) -> Compiled:
        assert given.sources["weights"].uri == f"./{item.name}"
        needs = {name: peer.steps[0].name for (_, name), peer in given.peers.items()}
        return Compiled(steps=(step(f"models.{item.name}", needs=needs),))


def items(**refers: list[str]) -> list[Item]:
    return [
        Item("models", name, "inline::plain", Model(type="llm", config={"refers": peers}), Path("/x"))
        for name, peers in refers.items()
    ]


def compiled(listed: list[Item]) -> dict[tuple[str, str], Compiled]:
    fetched = {f"./{item.name}": source(f"./{item.name}") for item in listed}
    plugin: Plugin = Plain()
    return compile_items(listed, {"inline::plain": plugin}, fetched)


def test_items_are_compiled_after_those_they_refer_to() -> None:
    result = compiled(items(a=["b", "c"], b=["c"], c=[]))
    assert list(result) == [("models", "c"), ("models", "b"), ("models", "a")]
    assert result["models", "a"].steps[0].needs == {"b": "models.b", "c": "models.c"}


def test_items_that_refer_in_a_circle_or_to_nothing() -> None:
    with pytest.raises(SpecError, match=r"circle: models\.a -> models\.b -> models\.a"):
        compiled(items(a=["b"], b=["a"]))
    with pytest.raises(SpecError, match=r"models\.helpr does not exist\. Did you mean 'helper'\?"):
        compiled(items(a=["helpr"], helper=[]))


def test_who_names_a_model_may_mean_an_agent() -> None:
    listed = [*items(outer=["inner"]), replace(items(inner=[])[0], kind="agents")]
    result = compiled(listed)
    assert list(result) == [("agents", "inner"), ("models", "outer")]
    assert result["models", "outer"].steps[0].needs == {"inner": "models.inner"}


def test_code_is_the_nearest_package_with_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_room" / "thing"
    (package / "compile").mkdir(parents=True)
    for folder in (package.parent, package, package / "compile"):
        (folder / "__init__.py").write_text("")
    (package / "plugin.py").write_text("")
    (package / "compile" / "work.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert home("some_room.thing.compile.work") == "some_room.thing"
    before = code_hash("some_room.thing")
    (package / "compile" / "__pycache__").mkdir()
    (package / "compile" / "__pycache__" / "work.pyc").write_text("noise")
    assert code_hash("some_room.thing") == before
    (package / "compile" / "work.py").write_text("x = 2\n")
    assert code_hash("some_room.thing") != before
    facts = gather([Step("a", "some_room.thing.compile.work:run", tools=("pydantic", "no-such-tool"))])
    assert set(facts.code) == {"some_room.thing"}
    assert facts.tools["pydantic"]
    assert facts.tools["no-such-tool"] == ""


def test_code_that_cannot_be_found() -> None:
    with pytest.raises(StepError, match="no_such_package_at_all"):
        gather([Step("a", "no_such_package_at_all.x:run")])
