"""A conversation in few words, and how long one is: both ask a model, and nothing is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lsbuild_runtime.agents.agent import function
from lsbuild_runtime.counting import count
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Chat, Sampling, Usage
from lsbuild_runtime.responses.answer import CompactedResponse, usage_of
from lsbuild_runtime.responses.binding import requested
from lsbuild_runtime.responses.items import Compaction, Item, Message, item_id, shown
from lsbuild_runtime.responses.keeping import Responses
from lsbuild_runtime.responses.messages import closed
from lsbuild_runtime.responses.preparing import Work, prepared
from lsbuild_runtime.responses.request import Asked, ResponseRequest
from lsbuild_runtime.routes.sampling import generate

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site

SUMMARY_TOKENS = 1024
_ASK = (
    "Summarise the conversation below so that it can be continued from the summary alone: who wants what, what was found and "
    "decided, names and numbers as they are, and what is open. Write the summary only."
)


def compacted(app: Site, wanted: Asked, context: Context) -> CompactedResponse:
    """What its users said as it was, and the rest as one item that stands for it.

    A conversation that is too long for its model is read in parts.
    """
    work = _prepared(app, wanted)
    summary, usage = _summary(app, work, work.told.messages, context)
    users: list[Item] = [
        shown(item, frozenset()) for item in work.items if isinstance(item, Message) and item.role == "user"
    ]
    return CompactedResponse(
        id=item_id("resp"),
        created_at=int(app.kept(Responses).clock()),
        output=[*users, Compaction(id=item_id("cmp"), encrypted_content=closed(summary))],
        usage=usage_of(usage),
    )


def counted(app: Site, wanted: Asked, context: Context) -> int:
    """The tokens that the request would be read as, with the tools that it names; ApiError 400 where the model cannot say."""
    work = _prepared(app, wanted)
    port = app.services.get(work.service.api, work.service.name)
    extra, _ = requested(app, work.wanted.tools or (), frozenset(), context)
    tools = [*work.chat.tools, *(function(tool) for tool in extra)]
    return count(port, msgspec.structs.replace(work.chat, tools=tools), context)


def _prepared(app: Site, wanted: Asked) -> Work:
    given = {name: getattr(wanted, name) for name in Asked.__struct_fields__}
    return prepared(
        app, ResponseRequest(**given), lambda: app.kept(Responses).records, int(app.kept(Responses).clock())
    )


def _summary(app: Site, work: Work, messages: Sequence[Mapping[str, Any]], context: Context) -> tuple[str, Usage]:
    """Read as many messages at a time as the model takes, each time with the summary of those before."""
    summary, total = "", Usage()
    place, size = 0, len(messages)
    while place < len(messages):
        earlier = [{"role": "user", "content": f"(said before, in few words) {summary}"}] if summary else []
        try:
            summary, spent = _asked(app, work, [*earlier, *messages[place : place + size]], context)
        except ApiError as error:
            if error.code != "context_length_exceeded" or size == 1:
                raise
            size = (size + 1) // 2
            continue
        place += size
        total = Usage(total.prompt + spent.prompt, total.completion + spent.completion, total.cached + spent.cached)
    return summary, total


def _asked(app: Site, work: Work, messages: Sequence[Mapping[str, Any]], context: Context) -> tuple[str, Usage]:
    chat = Chat(
        messages=[{"role": "user", "content": f"{_ASK}\n\n{_transcript(messages)}"}],
        sampling=Sampling(temperature=0.0, max_tokens=SUMMARY_TOKENS),
        tool_choice="none",
        stream=False,
    )
    text, usage = "", Usage()
    for delta in generate(app, work.service, "chat", lambda port: port.chat(chat, context), context):
        text += delta.text
        usage = delta.usage or usage
    return text.strip(), usage


def _transcript(messages: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for message in messages:
        content = message.get("content")
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())
        calls = "".join(
            f" [calls {call['function']['name']} {call['function']['arguments']}]"
            for call in message.get("tool_calls") or ()
        )
        lines.append(f"{message['role']}: {text}{calls}")
    return "\n".join(lines)
