"""What the steps of a workflow do that use something: ask, call, search, look. It decides nothing and keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from lsbuild_runtime.agents.grounding import Passage, numbered
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.parallel import in_order
from lsbuild_runtime.ports import Chat, Delta, Host, Inference, Sampling, VectorIO
from lsbuild_runtime.retrieve import Ranking, models_around, search
from lsbuild_runtime.safety import Safety
from lsbuild_runtime.tools import API as TOOLS
from lsbuild_runtime.tools import ToolInfo, ToolRuntime
from lsbuild_runtime.tools.arguments import fault, validated
from lsbuild_runtime.tools.calling import called
from lsbuild_runtime.workflows.journal import Outcome
from lsbuild_runtime.workflows.plan import Step
from lsbuild_runtime.workflows.values import Scope, fill, filled_text, text_of

Work = Generator[Delta, None, Outcome]
"""The words of an answer as they come; returns what the step gave."""


class Failed(Exception):
    """A step failed. ``again`` says that another try may help; ``code`` is for programs."""

    def __init__(self, message: str, *, code: str = "step_failed", again: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.again = again


def do(step: Step, scope: Scope, host: Host, context: Context) -> Work:
    """Do the step once. Failed, ApiError and values.Missing say why it could not be done."""
    return _DOES[step.kind](step, scope, host, context)


def tool_of(step: Step, host: Host, context: Context) -> tuple[ToolRuntime, ToolInfo]:
    """The tool that a step calls: the one named, or the only one of its group."""
    group, _, name = step.use.partition(".")
    runtime: ToolRuntime = host.get(TOOLS, group)
    infos = [info for info in runtime.tools(context) if not name or info.name == name]
    if len(infos) != 1:
        known = ", ".join(f"{group}.{info.name}" for info in runtime.tools(context))
        raise Failed(f"'{step.use}' names {'no' if not infos else 'more than one'} tool; there is: {known}")
    return runtime, infos[0]


def _agent(step: Step, scope: Scope, host: Host, context: Context) -> Work:
    chat = Chat([{"role": "user", "content": filled_text(step.prompt, scope)}], tool_choice="none")
    text, annotations = yield from _answered(host.get("agents", step.use), chat, context)
    return Outcome({"text": text, "annotations": annotations}, tainted=True)


def _model(step: Step, scope: Scope, host: Host, context: Context) -> Work:
    messages = [{"role": "user", "content": filled_text(step.prompt, scope)}]
    if step.system:
        messages.insert(0, {"role": "system", "content": filled_text(step.system, scope)})
    known = host.find(("inference",), step.use)
    defaults = known.metadata.get("sampling", {}) if known is not None else {}
    temperature = step.temperature if step.temperature is not None else defaults.get("temperature", 1.0)
    sampling = Sampling(
        temperature=temperature,
        top_p=defaults.get("top_p", 1.0),
        top_k=defaults.get("top_k", 0),
        max_tokens=step.tokens,
    )
    form = None if step.answer is None else _form(step.name, step.answer)
    chat = Chat(messages, sampling, tool_choice="none", response_format=form)
    text, _ = yield from _answered(host.get("inference", step.use), chat, context)
    if step.answer is None:
        return Outcome({"text": text})
    return Outcome({"text": text, "json": _parsed(text, step.answer)})


def _tool(step: Step, scope: Scope, host: Host, context: Context) -> Work:
    yield from ()
    runtime, info = tool_of(step, host, context)
    arguments = validated(msgspec.json.encode(fill(step.arguments, scope)).decode(), info.parameters)
    if isinstance(arguments, str):
        raise Failed(f"{step.use}: {arguments}", code="invalid_arguments")
    # On a thread of its own: a tool that does not come back cannot hold the run.
    ((result, error),) = in_order([partial(called, runtime, info.name, arguments, context)], 1, context)
    context.check()  # what a call says that was stopped is not the tool's own failure
    if error is not None or result.failed:
        raise Failed(f"{step.use}: {result.text}", code="tool_failed", again=True) from error
    structured = {} if result.structured is None else {"structured": result.structured}
    return Outcome({"text": result.text, **structured}, tainted=not info.trusted)


def _search(step: Step, scope: Scope, host: Host, context: Context) -> Work:
    yield from ()
    store: VectorIO = host.get("vector_io", step.use)
    around = models_around(host.find(("vector_io",), step.use), host)
    query = filled_text(step.query, scope)
    hits = search(store, (query,), context, step.limit, Ranking(), reranker=around.reranker())
    found = [
        {
            "text": hit.text,
            "file_id": hit.file_id,
            "filename": hit.filename,
            "heading": hit.heading,
            "score": hit.score,
            "line_start": hit.line_start,
            "line_end": hit.line_end,
        }
        for hit in hits
    ]
    text = numbered([Passage(step.use, hit, hit.text) for hit in hits])
    return Outcome({"text": text, "hits": found, "count": len(found)}, tainted=True)


def _shield(step: Step, scope: Scope, host: Host, context: Context) -> Work:
    yield from ()
    shield: Safety = host.get("safety", step.use)
    verdict = shield.check(filled_text(step.text, scope), step.where, context)
    categories = list(dict.fromkeys(finding.category for finding in verdict.findings))
    if verdict.blocked is not None and step.on_error == "fail":
        raise Failed(verdict.blocked.message, code="content_filter")
    message = verdict.blocked.message if verdict.blocked is not None else ""
    allowed = verdict.blocked is None
    text = verdict.text if allowed else ""
    return Outcome({"text": text, "allowed": allowed, "categories": categories, "message": message})


_DOES: Mapping[str, Callable[[Step, Scope, Host, Context], Work]] = {
    "agent": _agent,
    "model": _model,
    "tool": _tool,
    "search": _search,
    "shield": _shield,
}


def _answered(model: Inference, chat: Chat, context: Context) -> Generator[Delta, None, tuple[str, list[Any]]]:
    """The words of the answer and what it cites; Failed when it is refused."""
    parts: list[str] = []
    annotations: list[Any] = []
    deltas: Iterator[Delta] = model.chat(chat, context)
    try:
        for delta in deltas:
            context.check()
            if delta.refusal or delta.finish == "content_filter":
                raise Failed(delta.refusal or "the answer was refused", code="content_filter")
            parts.append(delta.text)
            annotations += (msgspec.to_builtins(each) for each in delta.annotations)
            yield delta
    finally:
        close = getattr(deltas, "close", None)
        if close is not None:
            close()
    return "".join(parts), annotations


def _form(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def _parsed(text: str, schema: Mapping[str, Any]) -> Any:
    """The answer as JSON that fits its schema. A model that does not hold to it may do so when it is asked again."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Failed(f"the answer is not JSON ({error})", code="invalid_answer", again=True) from None
    if isinstance(value, Mapping) and (wrong := fault(value, schema)):
        raise Failed(
            wrong.replace("arguments do not fit the tool", "answer does not fit"), code="invalid_answer", again=True
        )
    return value


def reason(error: Exception) -> Failed:
    """Any way in which a step can fail, as Failed; errors of a server that may pass are worth another try."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, ApiError):
        again = error.status in (408, 429) or error.status >= 500
        return Failed(error.message, code=error.code or "step_failed", again=again)
    return Failed(text_of(str(error)))
