"""The types of a workflow in a spec; what its steps may refer to is checked by `flows`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lsbuild.spec.section import Section
from lsbuild.spec.units import Name, Seconds


class Retries(Section):
    """What happens after a step failed for a reason that may go away."""

    count: int = Field(default=0, ge=0, le=10)
    """How often it is tried again."""
    backoff: Seconds = Field(default=1.0, ge=0)
    """The pause before the first of these; each next one is twice as long, at most a minute."""


class Case(Section):
    """One way that a branch can go."""

    when: dict[str, Any] = {}
    """Conditions, all of which have to hold, by what they look at: ``steps.sort.text: urgent``. Without any it always holds."""
    steps: dict[Name, WorkflowStep]
    """The steps of this way."""


class WorkflowStep(Section):
    """One step. The first key that is there says what it does: ``agent`` to ``approval``."""

    agent: str | None = None
    """Asks an agent (a key of ``agents``) or another workflow (a key of ``workflows``) the ``prompt``."""
    model: str | None = None
    """Asks a model (a key of ``models``) the ``prompt``."""
    tool: str | None = None
    """Calls a tool with ``arguments``: a key of ``tools``, or ``KEY.TOOL`` where it is a group."""
    search: str | None = None
    """Searches a store (a key of ``vector_stores``) for the ``query``."""
    shield: str | None = None
    """Has a shield (a key of ``shields``) look at the ``text``; what it blocks ends the run."""
    branch: tuple[Case, ...] = ()
    """Goes the first way whose conditions hold; a run for which none holds goes on behind the branch."""
    map: str | None = None
    """Does ``steps`` for every entry of a list, such as ``{{input.files}}``; they see it as ``{{item}}``."""
    approval: str | None = None
    """Asks a person; the text is what they are asked. What is refused ends the run."""
    prompt: str | None = None
    """What an agent or a model is asked."""
    system: str | None = None
    """Instructions of a model."""
    answer: dict[str, Any] | None = None
    """JSON Schema that the answer of a model has to follow; its value is then ``json`` of the step."""
    tokens: int | None = Field(default=None, ge=1)
    """Generated tokens of a model's answer. Default: as many as the model may write."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """How freely a model answers. Default: the model's own."""
    arguments: dict[str, Any] = {}
    """Arguments of a tool; texts in it may hold ``{{...}}``."""
    query: str | None = None
    """What is searched for."""
    limit: int = Field(default=5, ge=1, le=50)
    """Passages that a search gives."""
    text: str | None = None
    """What a shield looks at."""
    where: Literal["input", "output", "retrieved"] = "input"
    """What kind of text a shield takes it for."""
    steps: dict[Name, WorkflowStep] = {}
    """The steps that ``map`` does for each entry."""
    concurrency: int = Field(default=4, ge=1, le=32)
    """Entries of a ``map`` that are worked on at a time."""
    retries: Retries = Retries()
    """What happens after the step failed for a reason that may go away."""
    timeout: Seconds | None = Field(default=None, gt=0)
    """Longest time of one try. Default: as long as the run may last."""
    on_error: Literal["fail", "continue"] = "fail"
    """What a step does that has failed for good: ``fail`` ends the run, ``continue`` goes on with ``failed: true``."""


class Workflow(Section):
    """Steps that are done one after the other, under its key in ``workflows``; itself addressable as a model."""

    provider: str = "inline::workflow"
    """Who runs it."""
    description: str = ""
    """What it is for."""
    input: dict[str, Any] | None = None
    """JSON Schema of what a run is given. Default: an object with a ``text``."""
    steps: dict[Name, WorkflowStep] = Field(min_length=1)
    """The steps by name, in their order."""
    output: str | dict[str, Any] | list[Any] | None = None
    """What a run gives: a text, list or map with ``{{...}}`` in it. Default: the text of the last step."""
    wall: Seconds = Field(default=600.0, gt=0)
    """Longest time of a run, without the time in which it waits for a person."""
    keep: Seconds = Field(default=2_592_000.0, gt=0)
    """How long a finished run can be looked up."""
