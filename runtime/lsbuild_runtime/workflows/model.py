"""A workflow as a model: the last user message is its input, its output is the answer; nothing of such a run is kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lsbuild_runtime.agents.grounding import last_user
from lsbuild_runtime.agents.runs import Ended, Event, StepDone, Task, Used
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Host, Usage
from lsbuild_runtime.workflows import API
from lsbuild_runtime.workflows.course import Stopped, Waiting
from lsbuild_runtime.workflows.journal import Memory
from lsbuild_runtime.workflows.service import Opened
from lsbuild_runtime.workflows.values import text_of


class WorkflowModel:
    """Implements ports.Inference and runs.Runner over a workflow. The last step's text is passed on as it comes."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference. ApiError 400 for what does not fit, 424 for a step that failed, 409 where it asks a person."""
        _without(chat)
        usage = yield from self._said(chat, context)
        yield Delta(finish="stop", usage=usage)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:  # noqa: ARG002 - refused
        """A workflow needs a message."""
        raise ApiError(400, "a workflow answers POST /v1/chat/completions", param="model")

    def task(self, chat: Chat, context: Context) -> Task:  # noqa: ARG002 - it brings no tools
        """See runs.Runner."""
        _without(chat)
        return Task(chat)

    def run(self, task: Task, context: Context) -> Iterator[Event]:
        """See runs.Runner."""
        parts: list[str] = []
        said = self._said(task.chat, context)
        while True:
            try:
                delta = next(said)
            except StopIteration as over:
                usage: Usage = over.value
                break
            parts.append(delta.text)
            yield delta
        used = Used(task.used.steps + 1, task.used.calls, task.used.tokens + usage.completion)
        yield StepDone(({"role": "assistant", "content": "".join(parts)},), used, usage, tainted=True)
        yield Ended("stop", usage=usage)

    def _said(self, chat: Chat, context: Context) -> Generator[Delta, None, Usage]:
        """The output, piece by piece."""
        message = chat.messages[last_user(chat.messages)]
        given = self._opened.checked(given_by(message.get("content"), self._opened.workflow.input))
        course = self._opened.course(given, Memory())
        events = course.run(context)
        live = False
        try:
            while True:
                try:
                    event = next(events)
                except StopIteration as over:
                    output = over.value
                    break
                if isinstance(event, Delta):
                    live = True
                    yield event
        except Stopped as stopped:
            raise failed(self._opened.workflow.name, stopped) from stopped
        except Waiting as waiting:
            raise asks(self._opened.workflow.name, waiting) from waiting
        if not live:
            yield Delta(text=text_of(output))
        return course.usage


def open_model(service: Service, root: Path, host: Host) -> WorkflowModel:  # noqa: ARG001 - the entry's shape
    """The entry for services of the API ``agents`` that are workflows."""
    return WorkflowModel(host.get(API, service.name))


def given_by(content: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a message gives to a workflow: its JSON object, or its text as the one text that the schema requires."""
    text = content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content or ())
    if (name := only_text(schema)) is not None:
        return {name: text}
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError:
        given = None
    if not isinstance(given, dict):
        names = ", ".join(schema.get("properties", {}))
        message = f"messages: this workflow takes a JSON object with {names or 'its input'} as the last user message"
        raise ApiError(400, message, param="messages", code="invalid_value")
    return given


def only_text(schema: Mapping[str, Any]) -> str | None:
    """The name of the one property that the schema requires, when that is a text."""
    required: Sequence[str] = schema.get("required", ())
    if len(required) != 1:
        return None
    name = required[0]
    return name if schema.get("properties", {}).get(name, {}).get("type") == "string" else None


def failed(workflow: str, stopped: Stopped) -> ApiError:
    """A step that failed, for whoever waits for the run."""
    message = f"the workflow {workflow!r} failed at the step {stopped.path!r}: {stopped.message}"
    return ApiError(424, message, type="workflow_error", code=stopped.code)


def asks(workflow: str, waiting: Waiting) -> ApiError:
    """A run that has to ask a person, where nobody can be asked."""
    where = f"start it with POST /v1/workflows/{workflow}/runs, on a server with a state folder"
    message = f"the workflow {workflow!r} asks a person at the step {waiting.path!r}; {where}"
    return ApiError(409, message, type="workflow_error", code="approval_required")


def _without(chat: Chat) -> None:
    """ApiError 400 for what a workflow cannot honour."""
    if chat.tools:
        raise ApiError(400, "tools: a workflow calls none of the client's", param="tools", code="unsupported_parameter")
    if chat.sampling.n > 1:
        raise ApiError(400, "n: a workflow gives one answer", param="n", code="unsupported_value")
    if chat.response_format is not None:
        why = "response_format: the form of a workflow's output is its own"
        raise ApiError(400, why, param="response_format", code="unsupported_parameter")
