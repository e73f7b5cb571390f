"""What Google's clients send: the types of /v1alpha/interactions; no behaviour.

Two forms of input are read: the steps and contents of Google's own client, and the turns that the reference server of
Llama Stack takes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from lsbuild_runtime.routes.messages import Name
from lsbuild_runtime.routes.sampling import Text


class TextContent(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A text. The annotations of an earlier answer may be sent back; they are not read again."""

    text: str
    annotations: list[Any] | None = None


class ImageContent(Struct, tag_field="type", tag="image", forbid_unknown_fields=True):
    """An image, in the request or somewhere else; only for models that take images."""

    data: str | None = None
    uri: str | None = None
    mime_type: str = "image/png"


class UserStep(Struct, tag_field="type", tag="user_input", forbid_unknown_fields=True):
    """What the user says."""

    content: list[TextContent | ImageContent]


class ModelStep(Struct, tag_field="type", tag="model_output", forbid_unknown_fields=True):
    """What the model said."""

    content: list[TextContent] = []


class ThoughtStep(Struct, tag_field="type", tag="thought", forbid_unknown_fields=True):
    """What the model thought. The signature is not looked at: we give none."""

    summary: list[TextContent] = []
    signature: str | None = None


class CallStep(Struct, tag_field="type", tag="function_call", forbid_unknown_fields=True):
    """A call that the model made."""

    name: str
    id: str | None = None
    arguments: dict[str, Any] = {}


class ResultStep(Struct, tag_field="type", tag="function_result", forbid_unknown_fields=True):
    """The result of a call. ``id`` is the reference server's older name of ``call_id``."""

    result: str | dict[str, Any] | list[TextContent]
    call_id: str | None = None
    id: str | None = None
    name: str | None = None
    is_error: bool = False


Item = TextContent | ImageContent | UserStep | ModelStep | ThoughtStep | CallStep | ResultStep


class Turn(Struct, forbid_unknown_fields=True):
    """A turn, in the reference server's form."""

    role: Literal["user", "model"]
    content: str | list[TextContent | CallStep | ResultStep]


class Declaration(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function, in the reference server's form."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class FunctionTool(Struct, forbid_unknown_fields=True):
    """A function, or several as ``function_declarations``. Tools that Google's own servers run are refused by their type."""

    type: Literal["function"] = "function"
    name: Name | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    function_declarations: list[Declaration] | None = None
    defer_loading: Literal[False] | None = None


class AllowedTools(Struct, forbid_unknown_fields=True):
    """The tools that may be called."""

    tools: list[str]
    mode: Literal["auto", "any", "none"] = "auto"


class ToolChoiceConfig(Struct, forbid_unknown_fields=True):
    """How tools are chosen."""

    allowed_tools: AllowedTools


class GenerationConfig(Struct, forbid_unknown_fields=True):
    """How tokens are chosen. ``thinking_level`` is for models that accept ``reasoning_effort``."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop_sequences: Annotated[list[Text], Meta(max_length=64)] | None = None
    tool_choice: Literal["auto", "any", "none"] | ToolChoiceConfig | None = None
    thinking_level: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_summaries: Literal["auto", "none"] | None = None


class TextFormat(Struct, forbid_unknown_fields=True):
    """Plain text, or JSON, with a schema or any."""

    type: Literal["text"]
    mime_type: Literal["application/json", "text/plain"] | None = None
    schema: dict[str, Any] | None = None


class InteractionRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Google's request. ``model`` names a model, ``agent`` an agent; what is not honoured is refused by name."""

    model: str | None = None
    agent: str | None = None
    input: str | dict[str, Any] | list[dict[str, Any]]
    system_instruction: str | None = None
    generation_config: GenerationConfig | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    response_format: dict[str, Any] | list[dict[str, Any]] | None = None
    response_mime_type: Literal["application/json", "text/plain"] | None = None
    response_modalities: list[Literal["text", "TEXT"]] | None = None
    labels: Annotated[dict[str, str], Meta(max_length=64)] | None = None
    stream: bool | None = None
    previous_interaction_id: str | None = None
    store: bool | None = None
    background: Literal[False] | None = None
    service_tier: Literal["standard"] | None = None
