"""What tests of the Responses API share: a model that does what it is told, tools, and an application that keeps state.

The last user message is a script, one line for each answer of the model: ``say WORDS``, ``think WORDS``, ``refuse WORDS``,
``call NAME {json}``, several of them with `` ; `` between; ``decode HEX`` says what no shield sees in the message, ``wait``
stands before the gate, ``busy`` is refused twice, ``fail STATUS`` and ``break`` go wrong. After the last line it says what it
has read last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Delta, Host, TokenLogprob, ToolCall, Usage
from lsbuild_runtime.tools import ToolResult
from runtime_asking import Answer, asked
from scripted import TEXT, Scripted, Tools
from small_services import LETTERS, PARROT, SHELF, small_manifest


class Actor(Scripted):
    """The model; ``gate`` is what ``wait`` stands before."""

    def __init__(self, limit: int = 10_000) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.waiting = threading.Event()
        self.busy = 2
        self.limit = limit
        """Words that fit into its context."""

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        self.asked.append(chat)
        length = sum(len(str(message.get("content") or "").split()) for message in chat.messages)
        if length > self.limit:
            message = f"{length} words; the context holds {self.limit}"
            raise ApiError(400, message, param="messages", code="context_length_exceeded")
        place = max(place for place, message in enumerate(chat.messages) if message["role"] == "user")
        lines = [line for line in str(chat.messages[place]["content"]).splitlines() if line.strip()]
        step = sum(message["role"] == "assistant" for message in chat.messages[place + 1 :])
        line = lines[step] if step < len(lines) else f"say {chat.messages[-1].get('content')}"
        yield from self._act(line, chat, context)

    def _act(self, line: str, chat: Chat, context: Context) -> Iterator[Delta]:
        tokens = 0
        most = chat.sampling.max_tokens
        calls: list[ToolCall] = []
        for part in line.split(" ; "):
            verb, _, rest = part.strip().partition(" ")
            if verb == "call" and chat.tool_choice != "none":
                name, _, arguments = rest.partition(" ")
                calls += self._made([(name, arguments or "{}")])
            elif verb == "wait":
                self.waiting.set()
                while not self.gate.wait(0.01):
                    context.check()
            elif verb == "busy":
                if self.busy:
                    self.busy -= 1
                    raise ApiError(429, "the queue is full", type="rate_limit_error", code="queue_full", retry_after=0)
            elif verb == "fail":
                raise ApiError(int(rest), "the model cannot answer now", type="server_error", code="overloaded")
            elif verb == "break":
                raise RuntimeError("a fault of the model")
            else:
                rest = bytes.fromhex(rest).decode() if verb == "decode" else rest
                for word in _words(rest if verb in ("say", "think", "refuse", "decode") else part):
                    if most is not None and tokens >= most:
                        yield Delta(finish="length", usage=Usage(10, tokens))
                        return
                    tokens += 1
                    yield _said(verb, word, chat)
        finish = "tool_calls" if calls else "content_filter" if line.startswith("refuse") else "stop"
        yield Delta(tool_calls=tuple(calls), finish=finish, usage=Usage(10, tokens + 5 * len(calls), 2))


def _words(text: str) -> list[str]:
    return [word if place == 0 else f" {word}" for place, word in enumerate(text.split(" "))]


def _said(verb: str, word: str, chat: Chat) -> Delta:
    if verb == "think":
        return Delta(reasoning=word)
    if verb == "refuse":
        return Delta(refusal=word)
    logprobs = (TokenLogprob(word, -0.5, word.encode()),) if chat.sampling.logprobs is not None else ()
    return Delta(text=word, logprobs=logprobs)


def open_actor(service: Service, root: Path, host: Host) -> Actor:
    """Entry of an Actor; ``config.limit`` as in Actor."""
    return Actor(service.config.get("limit", 10_000))


def open_desk(service: Service, root: Path, host: Host) -> Tools:
    """Entry of a group of tools: one that answers, one that fails, one that asks first."""

    def fail(_: Mapping[str, Any], __: Context) -> ToolResult:
        return ToolResult("the pump is off", failed=True)

    tools = Tools(echo=lambda arguments, _: f"<{arguments['text']}>", fail=fail, order=lambda *_: "ordered")
    tools.infos["echo"] = tools.described("echo", TEXT).infos["echo"]
    return tools.described("order", approval=True)


def open_web(service: Service, root: Path, host: Host) -> Tools:
    """Entry of a web search."""
    tools = Tools(search=lambda arguments, _: f"pages about {arguments['query']}")
    return tools.described(
        "search", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    )


def open_notes(service: Service, root: Path, host: Host) -> Tools:
    """Entry of a tool that writes a line into the state folder for each call: what really happened, whoever died since."""
    path = host.state("notes") / "made"

    def note(arguments: Mapping[str, Any], _: Context) -> str:
        with path.open("a") as file:
            file.write(f"{arguments['text']}\n")
        return f"noted {arguments['text']}"

    return Tools(note=note).described("note", TEXT)


ACTOR = Service(api="inference", name="actor", provider="inline::actor", entry="responding:open_actor")
EYES = Service(
    api="inference", name="eyes", provider="inline::actor", entry="responding:open_actor", config={"limit": 150},
    metadata={"modalities": ["text", "image"], "accepts": ["reasoning_effort", "verbosity"]},
)  # fmt: skip
DESK = Service(
    api="tool_runtime", name="desk", provider="inline::desk", entry="responding:open_desk",
    metadata={"mcp_endpoint": {"uri": "https://${env.DESK_HOST:=desk.example}/mcp"}},
)  # fmt: skip
WEB = Service(api="tool_runtime", name="web_search", provider="inline::web", entry="responding:open_web")
AGENT = Service(
    api="agents", name="agent", provider="inline::agent", entry="lsbuild_runtime.agents.service:open_agent",
    config={"model": "actor", "tools": ["file_search", "desk"], "vector_stores": ["manuals"], "tokens": 64, "wall": 60.0},
    needs=("inference/actor", "vector_io/manuals", "tool_runtime/desk"),
)  # fmt: skip
NOTES = Service(api="tool_runtime", name="notes", provider="inline::notes", entry="responding:open_notes")
NOTED = Service(
    api="agents", name="noted", provider="inline::agent", entry="lsbuild_runtime.agents.service:open_agent",
    config={"model": "actor", "tools": ["notes"], "tokens": 64, "wall": 60.0},
    needs=("inference/actor", "tool_runtime/notes"),
)  # fmt: skip
STATE = Service(
    api="state", name="responses", provider="inline::sqlite", entry="lsbuild_runtime.responses.sqlite:open_records"
)
SERVICES = (ACTOR, EYES, PARROT, LETTERS, SHELF, DESK, WEB, AGENT, NOTES, NOTED, STATE)


@contextmanager
def opened(
    folder: Path, state: Service | None = STATE, clock: Callable[[], float] = time.time, started: bool = True
) -> Iterator[App]:
    """An application with its state in ``folder``; its worker has stopped at the end. ``state`` None keeps nothing."""
    services = [service for service in SERVICES if service.api != "state"]
    manifest = small_manifest([*services, *([state] if state else [])])
    app = App(manifest, folder, state=folder / "state" if state else None, clock=clock)
    if started:
        app.start()
    try:
        yield app
    finally:
        app.close()


def respond(app: App, script: Any, model: str = "actor", **fields: Any) -> Answer:
    """POST /v1/responses."""
    return asked(app, "POST", "/v1/responses", {"model": model, "input": script, **fields})


def streamed(app: App, script: Any, model: str = "actor", **fields: Any) -> list[Any]:
    """The events of a stream."""
    answer = respond(app, script, model, stream=True, **fields)
    assert answer.status == 200, answer.body
    return events_of(answer)


def events_of(answer: Answer) -> list[Any]:
    """The events of a stream of this API: each with its name, in the order of their numbers, and no end but the last."""
    found = []
    for block in answer.body.decode().split("\n\n")[:-1]:
        name, _, data = block.partition("\ndata: ")
        event = msgspec.json.decode(data)
        assert name == f"event: {event['type']}"
        found.append(event)
    numbers = [event["sequence_number"] for event in found]
    assert numbers == sorted(set(numbers))
    return found


def text_of(response: Mapping[str, Any]) -> str:
    """The words of a response."""
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part.get("text", "") for part in parts)


def settled(app: App, response_id: str, seconds: float = 20.0) -> Mapping[str, Any]:
    """The response as soon as it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = asked(app, "GET", f"/v1/responses/{response_id}")
        assert answer.status == 200, answer.body
        found: Mapping[str, Any] = answer.json
        if found["status"] not in ("queued", "in_progress"):
            return found
        time.sleep(0.01)
    raise AssertionError(f"{response_id} has not ended")
