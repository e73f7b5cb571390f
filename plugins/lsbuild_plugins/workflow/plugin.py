"""`inline::workflow` for the builder: ships a workflow as one JSON file; the steps themselves are done by the runtime."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from lsbuild.api import Compiled, Given, Item, Json, Plugin, Problem, Service, Step, StepContext
from lsbuild.declaring import JSON_SCHEMA, RE2
from lsbuild.spec.workflow import Workflow, WorkflowStep

FILE = "workflow.json"
"""The file in the workflow's folder, which the runtime reads."""
INPUT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
"""What a run is given when the spec does not say."""

_WHEELS = (JSON_SCHEMA, "apsw>=3.50")
"""What inputs are checked with, and what runs are kept in."""
_PATTERNS = (RE2,)
_KINDS = ("agent", "model", "tool", "search", "shield", "map", "approval")
_APIS = {"model": "inference", "agent": "agents", "tool": "tool_runtime", "search": "vector_io", "shield": "safety"}
_SECTIONS = {"model": "models", "agent": "agents", "tool": "tools", "search": "vector_stores", "shield": "shields"}


class WorkflowPlugin(Plugin):
    """The compile half of `inline::workflow`."""

    provider = "inline::workflow"
    kinds = ("workflows",)

    def check(self, item: Item) -> Iterable[Problem]:
        """Schemas that are none. What steps refer to is the spec's own check."""
        spec = _spec(item)
        if spec.input is not None and (fault := _schema_fault(spec.input)):
            yield Problem(("input",), fault)
        elif spec.input is not None and spec.input.get("type") != "object":
            yield Problem(("input",), "what a run is given is an object: say type: object")
        for path, step in _walk(spec.steps, ("steps",)):
            if step.answer is not None and (fault := _schema_fault(step.answer)):
                yield Problem((*path, "answer"), fault)

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """All that its steps use."""
        used = [(_SECTIONS[kind], _key(kind, name)) for kind, name in _used(_spec(item))]
        return tuple(dict.fromkeys(used))

    def compile(self, item: Item, given: Given) -> Compiled:  # noqa: ARG002 - it is made of the spec alone
        """One step that writes the file; a service that runs, and one that is a model over it."""
        spec = _spec(item)
        options = compiled(item.name, spec)
        step = Step(
            name=f"workflows.{item.name}.steps",
            run="lsbuild_plugins.workflow.plugin:write",
            options=options,
            ship=f"workflows/{item.name}",
            part="app",
        )
        needs = tuple(dict.fromkeys(f"{_APIS[kind]}/{_key(kind, name)}" for kind, name in _used(spec)))
        runs = Service(
            api="workflows",
            name=item.name,
            provider=self.provider,
            entry="lsbuild_runtime.workflows.service:open_workflow",
            path=f"workflows/{item.name}",
            metadata={"description": spec.description},
            needs=needs,
        )
        model = Service(
            api="agents",
            name=item.name,
            provider=self.provider,
            entry="lsbuild_runtime.workflows.model:open_model",
            metadata={"model_type": "llm", "description": spec.description},
            needs=(f"workflows/{item.name}",),
        )
        patterns = _PATTERNS if '"matches"' in json.dumps(options) else ()
        return Compiled(steps=(step,), services=(runs, model), wheels=(*_WHEELS, *patterns))


PLUGIN = WorkflowPlugin()


def compiled(name: str, spec: Workflow) -> dict[str, Json]:
    """The workflow as the runtime reads it (`lsbuild_runtime.workflows.plan`)."""
    return {
        "name": name,
        "description": spec.description,
        "input": dict(spec.input or INPUT),
        "steps": [_step(*each) for each in spec.steps.items()],
        "output": spec.output,
        "wall": spec.wall,
        "keep": spec.keep,
    }


def write(context: StepContext) -> Mapping[str, Json]:
    """The step: one JSON file."""
    text = json.dumps(context.options, indent=1, sort_keys=True, ensure_ascii=False)
    (context.out / FILE).write_text(text + "\n", encoding="utf-8")
    return {"steps": len(context.options["steps"])}


def _spec(item: Item) -> Workflow:
    return cast("Workflow", item.spec)


def _step(name: str, step: WorkflowStep) -> dict[str, Json]:
    kind = kind_of(step)
    plain = step.model_dump(exclude={"branch", "steps", kind}, exclude_defaults=True)
    made: dict[str, Json] = {"name": name, "kind": kind, **plain}
    if kind == "branch":
        cases = [{"when": case.when, "steps": [_step(*each) for each in case.steps.items()]} for case in step.branch]
        return {**made, "cases": cases}
    if kind == "map":
        made["steps"] = [_step(*each) for each in step.steps.items()]
    return {**made, "use": getattr(step, kind)}


def kind_of(step: WorkflowStep) -> str:
    """What the step does."""
    return next((kind for kind in _KINDS if getattr(step, kind) is not None), "branch")


def _walk(
    steps: Mapping[str, WorkflowStep], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], WorkflowStep]]:
    """All steps, those inside others too, each with its path."""
    for name, step in steps.items():
        yield (*path, name), step
        yield from _walk(step.steps, (*path, name, "steps"))
        for index, case in enumerate(step.branch):
            yield from _walk(case.steps, (*path, name, "branch", index, "steps"))


def _used(spec: Workflow) -> list[tuple[str, str]]:
    """(kind, name) of what the steps use."""
    steps = [step for _, step in _walk(spec.steps, ())]
    return [(kind, getattr(step, kind)) for step in steps if (kind := kind_of(step)) in _APIS]


def _key(kind: str, name: str) -> str:
    return name.partition(".")[0] if kind == "tool" else name


def _schema_fault(schema: Mapping[str, Any]) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"this is no JSON Schema: {error.json_path}: {error.message[:200]}"
    return ""
