"""`inline::evals`: what is refused, when there is a step, and the step itself over small real services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lsbuild.api import Compiled, Given, Item, Service, Source, SourceError, SourceFile, Step, StepContext, StepError
from lsbuild.evals import result
from lsbuild.plan import compile_items
from lsbuild.spec.model import Eval
from lsbuild_plugins.evals.ask import run
from lsbuild_plugins.evals.plugin import PLUGIN
from small_services import HELPER, LETTERS, PARROT, SHELF

QUESTIONS = """
- question: Which pump needs oil every week?
  answers: [{file: manual.md, lines: 2, text: red pump}]
- question: How does a valve close?
  answers: [{file: manual.md, lines: 5, heading: Valves}]
- question: zebra
"""
INDEX = Step("vector_stores.manuals.index", "m:f", ship="indexes/manuals", part="index")
PEERS = {
    ("models", "letters"): Compiled(services=(LETTERS,), wheels=("onnxruntime>=1",), code=("small_services",)),
    ("vector_stores", "manuals"): Compiled(
        steps=(INDEX,),
        services=(msgspec.structs.replace(SHELF, path="indexes/manuals", needs=("embeddings/letters",)),),
    ),
}


def item(**spec: Any) -> Item:
    """An evaluation of a spec."""
    return Item("evals", "search", "inline::evals", Eval(**{"questions": "q.yaml", **spec}), Path("spec"))


def source(tmp_path: Path, text: str = QUESTIONS) -> Source:
    """The question set."""
    path = tmp_path / "q.yaml"
    path.write_text(text)
    return Source("q.yaml", (SourceFile("q.yaml", path, "0" * 64, len(text)),))


def faults(**spec: Any) -> list[str]:
    return [f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in PLUGIN.check(item(**spec))]


def test_an_evaluation_names_one_thing_and_gates_that_can_be_measured() -> None:
    assert faults(store="a", gates={"recall@5": 1, "mrr": 0.5, "separation": 0.5}) == []
    assert faults(agent="a", gates={"cited": 0.5}) == []
    assert faults() == faults(store="a", agent="b") == [": name either a store or an agent"]
    assert faults(agent="a", mode="vector")[0].startswith("mode: an agent searches as its stores do")
    assert faults(agent="a", gates={"mrr": 1})[0].startswith("gates.mrr: an agent is measured by answered")
    assert faults(store="a", gates={"precision": 1})[0].startswith("gates.precision: a store is measured by recall@N")
    assert faults(store="a", k=5, gates={"recall@10": 1})[0].endswith(
        "only the first 5 passages are looked at; raise k"
    )


def test_the_step_needs_every_shipped_part_and_no_gate_changes_its_key(tmp_path: Path) -> None:
    given = Given({"questions": source(tmp_path)}, PEERS)
    (step,) = PLUGIN.compile(item(store="manuals", gates={"mrr": 0.1}), given).steps
    assert (step.ship, dict(step.needs)) == ("evals/search", {"indexes/manuals": INDEX.name})
    assert {"small_services", "lsbuild.evals"} <= set(step.code)
    assert step.tools == ("onnxruntime",)
    assert [service["name"] for service in step.options["services"]] == ["letters", "manuals"]
    other = PLUGIN.compile(item(store="manuals", gates={"mrr": 0.9, "recall@5": 0.5, "separation": 1}), given)
    assert other.steps == (step,)


def test_what_is_not_compiled_in_is_not_asked_at_build(tmp_path: Path) -> None:
    remote = msgspec.structs.replace(LETTERS, provider="remote::openai")
    peers = {**PEERS, ("models", "letters"): Compiled(services=(remote,))}
    assert PLUGIN.compile(item(store="manuals"), Given({"questions": source(tmp_path)}, peers)) == Compiled()


def test_what_could_call_a_tool_is_not_asked_at_build(tmp_path: Path) -> None:
    def service(api: str, name: str, *needs: str) -> Service:
        return Service(api=api, name=name, provider="inline::x", entry="m:f", needs=needs)

    tool, agent = service("tool_runtime", "pump"), service("agents", "helper", "tool_runtime/pump")
    alone = service("agents", "helper")
    peers = {("tools", "pump"): Compiled(services=(tool,)), ("agents", "helper"): Compiled(services=(agent,))}
    asked = item(agent="helper")
    assert PLUGIN.compile(asked, Given({"questions": source(tmp_path)}, peers)) == Compiled()
    peers["agents", "helper"] = Compiled(services=(alone,))
    assert len(PLUGIN.compile(asked, Given({"questions": source(tmp_path)}, peers)).steps) == 1


class Shelves:
    """A plugin of stores that need a model."""

    provider = "shelf"
    kinds = ("vector_stores",)

    def check(self, _: Item) -> list[Any]:
        return []

    def refers(self, each: Item) -> tuple[tuple[str, str], ...]:
        return (("models", "letters"),) if each.kind == "vector_stores" else ()

    def sources(self, _: Item) -> dict[str, str]:
        return {}

    def compile(self, each: Item, _: Given) -> Compiled:
        return PEERS[each.path]


def test_an_evaluation_is_given_what_its_store_refers_to_in_turn(tmp_path: Path) -> None:
    items = [item(store="manuals")]
    items += [Item(kind, name, "shelf", items[0].spec, tmp_path) for kind, name in PEERS]
    plugins: dict[str, Any] = {"shelf": Shelves(), "inline::evals": PLUGIN}
    compiled = compile_items(items, plugins, {"q.yaml": source(tmp_path)})
    (step,) = compiled["evals", "search"].steps
    assert [service["name"] for service in step.options["services"]] == ["letters", "manuals"]


def ran(tmp_path: Path, services: list[Any], text: str = QUESTIONS, **options: Any) -> tuple[dict[str, Any], Any]:
    """Run the step; its facts and its result."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    given = {"store": None, "agent": None, "k": 5, "mode": None, "measures": [], **options}
    given["services"] = [msgspec.to_builtins(each) for each in services]
    context = StepContext(out, given, {"questions": source(tmp_path, text)}, {}, lambda *_: None)
    facts = dict(run(context))
    return facts, result.read(out)


def test_a_store_is_searched_in_every_mode_with_the_service_that_ships(tmp_path: Path) -> None:
    shelf = msgspec.structs.replace(SHELF, config={"search": "keyword"})
    facts, found = ran(tmp_path, [shelf], store="manuals")
    assert facts["questions"] == 2
    assert facts["success@5"] == facts["recall@1"] == 1
    assert found.mode == "keyword"
    assert set(found.modes) == {"vector", "hybrid"}
    assert found.asked[0].came[0] == "manual.md:2-2"
    before = (tmp_path / "out" / "eval.json").read_bytes()
    ran(tmp_path, [shelf], store="manuals")
    assert (tmp_path / "out" / "eval.json").read_bytes() == before


def test_an_agent_is_asked_as_clients_ask_it(tmp_path: Path) -> None:
    facts, found = ran(tmp_path, [PARROT, SHELF, HELPER], agent="helper")
    assert found.api == "agents"
    assert facts["answered"] == 1  # the parrot repeats its passages
    assert "red pump" in found.asked[0].said
    assert found.asked[0].came[0].startswith("manual.md:2")


def test_a_question_that_is_refused_is_named(tmp_path: Path) -> None:
    text = f"- question: {'word ' * 400}\n  answers: [{{file: a}}]\n"
    with pytest.raises(StepError, match="a question was refused"):
        ran(tmp_path, [PARROT, SHELF, HELPER], text, agent="helper")


def test_questions_must_be_one_file(tmp_path: Path) -> None:
    one = source(tmp_path).files[0]
    context = StepContext(tmp_path, {}, {"questions": Source("q", (one, one))}, {}, lambda *_: None)
    with pytest.raises(SourceError, match="one file"):
        run(context)
