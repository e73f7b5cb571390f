"""`inline::workflow` for the builder: what it refers to, what it ships, what it refuses; and the spec's own checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item, StepContext
from lsbuild.errors import SpecError
from lsbuild.spec.load import load
from lsbuild.spec.workflow import Workflow
from lsbuild_plugins.workflow.plugin import PLUGIN, compiled, write
from lsbuild_runtime.workflows.plan import Case, Retries, Step, read

STEPS: dict[str, Any] = {
    "guard": {"shield": "strict", "text": "{{input.text}}", "where": "retrieved"},
    "find": {"search": "docs", "query": "{{input.text}}", "limit": 2},
    "sort": {
        "model": "chat", "prompt": "{{input.text}}", "system": "Sort.", "answer": {"type": "object"}, "tokens": 5,
        "temperature": 0.5, "retries": {"count": 2, "backoff": "3s"}, "timeout": "20s",
    },
    "way": {
        "branch": [
            {
                "when": {"steps.sort.json.kind": "bug"},
                "steps": {"fix": {"tool": "kit.fix", "arguments": {"a": ["{{steps.find.text}}"]}, "on_error": "continue"}},
            },
            {"steps": {"say": {"agent": "helper", "prompt": "{{steps.find.text}}"}}},
        ]
    },
    "each": {
        "map": "{{steps.find.hits}}", "concurrency": 2,
        "steps": {"note": {"tool": "kit.note", "arguments": {"t": "{{item.text}}"}}},
    },
    "ask": {"approval": "Send {{steps.way.text}}?"},
}  # fmt: skip


def item(**spec: Any) -> Item:
    """A workflow of a spec."""
    return Item("workflows", "flow", "inline::workflow", Workflow.model_validate(spec), Path("spec"))


def test_a_workflow_refers_to_all_that_its_steps_use_once() -> None:
    assert list(PLUGIN.refers(item(steps=STEPS))) == [
        ("shields", "strict"), ("vector_stores", "docs"), ("models", "chat"), ("tools", "kit"), ("agents", "helper"),
    ]  # fmt: skip


def test_the_runtime_reads_what_the_spec_says(tmp_path: Path) -> None:
    made = PLUGIN.compile(
        item(steps=STEPS, description="Sorts.", output={"a": "{{steps.ask.text}}"}, wall="5m"), Given({})
    )
    (step,), (runs, model) = made.steps, made.services
    write(StepContext(tmp_path, step.options, {}, {}, lambda *_: None))
    plan = read(tmp_path)
    assert (plan.name, plan.description, plan.output, plan.wall) == (
        "flow",
        "Sorts.",
        {"a": "{{steps.ask.text}}"},
        300.0,
    )
    assert plan.input["required"] == ["text"]
    guard, find, sort, way, each, ask = plan.steps
    assert guard == Step("guard", "shield", "strict", text="{{input.text}}", where="retrieved")
    assert find == Step("find", "search", "docs", query="{{input.text}}", limit=2)
    assert sort == Step(
        "sort", "model", "chat", prompt="{{input.text}}", system="Sort.", answer={"type": "object"}, tokens=5,
        temperature=0.5, retries=Retries(2, 3.0), timeout=20.0,
    )  # fmt: skip
    fix = Step("fix", "tool", "kit.fix", arguments={"a": ["{{steps.find.text}}"]}, on_error="continue")
    say = Step("say", "agent", "helper", prompt="{{steps.find.text}}")
    assert way == Step("way", "branch", cases=(Case((fix,), {"steps.sort.json.kind": "bug"}), Case((say,))))
    note = Step("note", "tool", "kit.note", arguments={"t": "{{item.text}}"})
    assert each == Step("each", "map", "{{steps.find.hits}}", steps=(note,), concurrency=2)
    assert ask == Step("ask", "approval", "Send {{steps.way.text}}?")
    assert (runs.api, runs.needs) == (
        "workflows", ("safety/strict", "vector_io/docs", "inference/chat", "tool_runtime/kit", "agents/helper"),
    )  # fmt: skip
    assert (model.api, model.name, model.needs) == ("agents", "flow", ("workflows/flow",))
    assert not any(wheel.startswith("google-re2") for wheel in made.wheels)


def test_the_version_changes_with_the_workflow(tmp_path: Path) -> None:
    versions = []
    for prompt in ("a", "a", "b"):
        options = compiled("flow", Workflow.model_validate({"steps": {"s": {"model": "m", "prompt": prompt}}}))
        write(StepContext(tmp_path, options, {}, {}, lambda *_: None))
        versions.append(read(tmp_path).version)
    assert versions[0] == versions[1] != versions[2]


def test_patterns_bring_their_engine() -> None:
    when = {"input.text": {"matches": "a+"}}
    steps = {"b": {"branch": [{"when": when, "steps": {"a": {"approval": "?"}}}]}}
    assert any(wheel.startswith("google-re2") for wheel in PLUGIN.compile(item(steps=steps), Given({})).wheels)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"input": {"type": "strnig"}}, ("input",)),
        ({"input": {"type": "string"}}, ("input",)),
        ({"steps": {"a": {"model": "m", "prompt": "x", "answer": {"type": 5}}}}, ("steps", "a", "answer")),
    ],
)
def test_schemas_that_are_none_are_found(spec: dict[str, Any], path: tuple[str, ...]) -> None:
    steps = {"a": {"model": "m", "prompt": "x"}}
    assert [problem.path for problem in PLUGIN.check(item(**{"steps": steps, **spec}))] == [path]


BASE = """\
models: {m: {type: llm}, e: {type: embedding}}
workflows:
  w:
    steps:
      a: {model: m, prompt: "{{input.text}}"}
"""


def faults(tmp_path: Path, more: str, base: str = BASE) -> list[str]:
    """What is wrong with the spec, without the file's name."""
    path = tmp_path / "spec.yaml"
    path.write_text(base + more)
    try:
        load(path, environ={})
    except SpecError as error:
        return [line.removeprefix(f"{path}:") for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('      b: {model: m, prompt: "{{steps.a.text}}"}\n', ""),
        ('      b: {model: m, prompt: "{{steps.b.text}}"}\n', "6:29: the step 'b' runs later, or only on another way."),
        ('      b: {model: m, prompt: "{{steps.x.text}}"}\n', "6:29: the step 'x' does not exist. There is: a."),
        ('      b: {model: m, prompt: "{{steps.a.txt}}"}\n', "the step 'a' gives no 'txt'. Did you mean 'text'?"),
        ('      b: {model: m, prompt: "{{steps.a.json.x}}"}\n', "the step 'a' gives no 'json'."),
        ('      b: {model: m, prompt: "{{inptu.text}}"}\n', "there is no 'inptu' here. Did you mean 'input'?"),
        ('      b: {model: m, prompt: "{{item}}"}\n', "there is no 'item' here."),
        ('      b: {model: m, prompt: "{{a b}}"}\n', "'{{a b}}' is not the name of a value"),
        ('      b: {model: m, prompt: "{{input.text"}\n', "6:29: '{{' without '}}'"),
        ("      b: {model: e, prompt: x}\n", "6:18: 'e' is of type embedding; a step asks models of type llm"),
        ("      b: {agent: z, prompt: x}\n", "6:18: there is no agent 'z'."),
        ("      b: {agent: w, prompt: x}\n", "6:18: there is no agent 'w'."),
        ("      b: {tool: t.x}\n", "6:17: there is no tool 't'."),
        ("      b: {search: s, query: x}\n", "6:19: there is no vector store 's'."),
        ("      b: {shield: s, text: x}\n", "6:19: there is no shield 's'."),
        ("      b: {model: m}\n", "6:7: a step with 'model' needs 'prompt'"),
        ("      b: {model: m, prompt: x, query: y}\n", "6:32: a step with 'model' has no 'query'"),
        ("      b: {approval: x, retries: {count: 1}}\n", "6:24: a step with 'approval' has no 'retries'"),
        ("      b: {model: m, agent: z, prompt: x}\n", "6:7: a step has one of agent, model, tool"),
        ("      b: {}\n", "it has none of them"),
        ("      b.c: {approval: x}\n", "'b.c' is no name of a step: it has a dot in it"),
        ("      b: {map: x, steps: {c: {model: m, prompt: x}}}\n", "6:16: a map goes over one list"),
        ('      b: {map: "{{input.text}}", steps: {c: {approval: x}}}\n', "nobody can be asked inside a map"),
        ('      b: {map: "{{input.text}}", steps: {a: {model: m, prompt: x}}}\n', "there are two steps 'a'"),
        ("      b: {branch: [{steps: {c: {approval: x}}}, {steps: {d: {approval: x}}}]}\n", "this way is always taken"),
        ("      b: {branch: [{when: {steps.a.text: {is: x}}, steps: {c: {approval: x}}}]}\n", "there is no test 'is'."),
        ("      b: {branch: [{when: {steps.a.text: {in: x}}, steps: {c: {approval: x}}}]}\n", "'in' takes a list"),
        ("      b: {branch: [{when: {steps.a.text: [x]}, steps: {c: {approval: x}}}]}\n", "expected a value, or a map"),
        ('      b: {branch: [{when: {steps.a.text: {matches: "("}}, steps: {c: {approval: x}}}]}\n', "not a regular"),
        ("      b: {branch: [{when: {input.text: {exists: 1}}, steps: {c: {approval: x}}}]}\n", "takes true or false"),
        (
            "      b: {branch: [{steps: {c: {approval: x}}}]}\n      d: {model: m, prompt: \"{{steps.c.text}}\"}\n",
            "7:29: the step 'c' runs later, or only on another way.",
        ),
        ('    output: "{{steps.a.nothing}}"\n', "6:13: the step 'a' gives no 'nothing'."),
        ("  v: {steps: {}}\n", "6:14: expected at least one entry"),
        ("    outptu: x\n", "unknown key 'outptu'. Did you mean 'output'?"),
        ("  m: {steps: {a: {model: m, prompt: x}}}\n", "'m' is in models already; a workflow is addressed as a model too"),
    ],
)  # fmt: skip
def test_faults_are_told_with_their_place(tmp_path: Path, more: str, fault: str) -> None:
    found = faults(tmp_path, more)
    if not fault:
        assert found == []
    else:
        assert any(fault in line for line in found), found


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    more = '      b: {model: x, prompt: "{{steps.c.text}}", limit: 3}\n      c: {tool: t}\n    output: ["{{foo}}"]\n  w2: {}\n'
    found = faults(tmp_path, more)
    assert [line.split(":")[0] for line in found] == ["6", "6", "6", "7", "8", "9"]
