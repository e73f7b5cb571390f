"""What Google's clients read: the types of interactions, steps and events; no behaviour."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class Citation(Struct, tag_field="type", tag="file_citation"):
    """A citation: the file, the byte of the text where the citation stands, and where in the file."""

    file_name: str
    start_index: int
    end_index: int
    custom_metadata: dict[str, Any]


class OutputText(Struct, tag_field="type", tag="text"):
    """A text."""

    text: str
    annotations: list[Citation] | UnsetType = UNSET


class ModelOutput(Struct, tag_field="type", tag="model_output"):
    """What the model says."""

    content: list[OutputText] | UnsetType = UNSET


class Thought(Struct, tag_field="type", tag="thought"):
    """What the model thinks; it is not signed."""

    summary: list[OutputText] | UnsetType = UNSET


class Call(Struct, tag_field="type", tag="function_call"):
    """A call that the model makes."""

    id: str
    name: str
    arguments: dict[str, Any]


Step = ModelOutput | Thought | Call


class InteractionUsage(Struct):
    """Token counts."""

    total_input_tokens: int
    total_output_tokens: int
    total_cached_tokens: int
    total_tokens: int


class Interaction(Struct, kw_only=True):
    """The whole answer, or in a stream what is known of it. ``outputs`` are the steps in the reference server's form."""

    id: str
    object: str = "interaction"
    created: str
    updated: str
    status: str
    model: str
    role: str = "model"
    agent: str | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    previous_interaction_id: str | UnsetType = UNSET
    steps: list[Step] | UnsetType = UNSET
    outputs: list[OutputText | Thought | Call] | UnsetType = UNSET
    usage: InteractionUsage | UnsetType = UNSET


class TextDelta(Struct, tag_field="type", tag="text"):
    """More text."""

    text: str


class ThoughtDelta(Struct, tag_field="type", tag="thought_summary"):
    """More thoughts."""

    content: OutputText


class ArgumentsDelta(Struct, tag_field="type", tag="arguments_delta"):
    """The arguments of a call."""

    arguments: str


class AnnotationDelta(Struct, tag_field="type", tag="text_annotation_delta"):
    """Citations of the text before."""

    annotations: list[Citation]


AnyDelta = TextDelta | ThoughtDelta | ArgumentsDelta | AnnotationDelta


class Created(Struct, tag_field="event_type", tag="interaction.created"):
    """The first event."""

    interaction: Interaction


class StepStart(Struct, tag_field="event_type", tag="step.start"):
    """A step begins."""

    index: int
    step: Step


class StepDelta(Struct, tag_field="event_type", tag="step.delta"):
    """A step goes on."""

    index: int
    delta: AnyDelta


class StepStop(Struct, tag_field="event_type", tag="step.stop"):
    """A step ends."""

    index: int


class Completed(Struct, tag_field="event_type", tag="interaction.completed"):
    """The last event."""

    interaction: Interaction


Event = Created | StepStart | StepDelta | StepStop | Completed
