"""The types of agents and of prompts in a spec."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lsbuild.spec.section import Section
from lsbuild.spec.units import Seconds


class Limits(Section):
    """What one run of an agent may use at most."""

    passages: int = Field(default=3, ge=1, le=50)
    """Retrieved passages that are shown to the model."""
    tokens: int = Field(default=512, ge=1)
    """Generated tokens of one answer of the model."""
    total_tokens: int | None = Field(default=None, ge=1)
    """Generated tokens of all answers of one run together. Default: no limit beside the others."""
    steps: int = Field(default=10, ge=1, le=100)
    """Answers of the model in which it may call tools; a run that reaches them gets one more answer, without tools."""
    calls: int = Field(default=32, ge=0, le=1000)
    """Calls of tools in one run."""
    wall: Seconds = Field(default=30.0, gt=0)
    """Time of one run."""


class Agent(Section):
    """A model with instructions and knowledge, itself addressable as a model under its key in ``agents``."""

    provider: str = "inline::agent"
    """Who runs it."""
    model: str
    """The model that answers (a key of ``models`` with ``type: llm``, or of ``agents``)."""
    description: str = ""
    """What it is for, as agents read it that may ask it."""
    instructions: str = ""
    """The system prompt: a text, or the path of a .md or .txt file."""
    vector_stores: tuple[str, ...] = ()
    """Stores that are searched with the user's question before the model answers; answers cite what was found. With
    ``file_search`` among the tools the model searches them itself, as often as it likes."""
    tools: tuple[str, ...] = ()
    """What the model may call: keys of ``tools``, and ``file_search`` for the search of its stores."""
    agents: tuple[str, ...] = ()
    """Other agents that it may ask as it calls tools."""
    tainted: tuple[str, ...] = ()
    """Tools that may send something out although the run has read text that nobody vouches for: keys of ``tools`` or
    ``KEY.TOOL``. Without this, documents and results that were read cannot make an agent send anything."""
    shields: tuple[str, ...] = ()
    """Shields that look at what users say and at what is answered, beside those of ``server.shields``."""
    limits: Limits = Limits()
    """What one run may use at most."""
    config: dict[str, Any] = {}
    """Settings of the provider: ``prompt`` is the form in which passages and question reach the model."""


class Prompt(Section):
    """A text with places for what changes, served under its key in ``prompts``. A plain text stands for its text."""

    provider: str = "inline::prompts"
    """Who ships it."""
    text: str = Field(min_length=1)
    """The prompt, with ``{{name}}`` for what a request fills in: a text, or the path of a .md or .txt file."""
    variables: tuple[str, ...] | None = None
    """The names that a request may fill in, all of those in the text among them. Default: those in the text."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"text": value}
        if not isinstance(value, dict | Prompt):
            raise PydanticCustomError("string_type", "expected a text or a map")
        if isinstance(value, dict) and isinstance(value.get("variables"), list):
            # What a validator before the fields hands on counts as Python's, where only a tuple is one.
            return {**value, "variables": tuple(value["variables"])}
        return value

    def spelled(self) -> str | dict[str, Any]:
        """As a user would write it: a text when there is nothing else."""
        rest = {"variables": self.variables} if self.variables is not None else {}
        if "provider" in self.model_fields_set:
            rest = {"provider": self.provider, **rest}  # type: ignore[dict-item]
        return {"text": self.text, **rest} if rest else self.text
