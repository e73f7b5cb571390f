"""What a tool is to the rest of the runtime: its description, its result and who runs it; types only, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Hit

API = "tool_runtime"
"""The API of the services that run tools; the name of a service is its key under ``tools`` in the spec."""

Sends = Literal["nothing", "external"]
"""Whether a call can carry what the model has read to somebody else: mail, a web request, a ticket."""


class ToolInfo(Struct, frozen=True):
    """One tool as a model and as a policy see it.

    ``name`` is unique within its service and fits OpenAI's pattern (letters, digits, ``_`` and ``-``, at most 64).
    ``parameters`` is the JSON Schema of the arguments, an object. ``trusted`` says that results are the operator's own
    words: they do not taint a run. ``approval`` asks for a person's consent before each call. ``vouched`` says that the
    definition is the operator's own or pinned by the lock; else its words taint every run that is told of it.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    sends: Sends = "nothing"
    trusted: bool = False
    approval: bool = False
    vouched: bool = True


class Found(Struct, frozen=True):
    """A passage that a search gave, and the store that it is from."""

    store: str
    hit: Hit


class ToolResult(Struct, frozen=True):
    """What one call gave. ``text`` is what the model reads; with ``failed`` it says what went wrong and what to do.

    ``structured`` is the same for programs, where the tool has such a form; ``found`` are the passages behind a search.
    """

    text: str
    failed: bool = False
    structured: Any = None
    found: tuple[Found, ...] = ()


class ToolRuntime(Protocol):
    """A service of the API ``tool_runtime``: one tool or a group of them. It may be used from several threads."""

    def tools(self, context: Context) -> Sequence[ToolInfo]:
        """What can be called, always in the same order; ApiError 503 when a remote group cannot be reached."""
        ...

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """Run a tool to its end, the context's deadline or its cancel flag.

        The caller has validated ``arguments`` against the tool's parameters. What a tool does wrong (it raises, hangs,
        dies, says too much) is a failed result, never an error of the server. ApiError 404 for an unknown name.
        """
        ...
