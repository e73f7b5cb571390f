"""A model that answers by a script, and tools that record, raise, hang and flood: the loop's counterparts in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from lsbuild_runtime.agents.runs import Bound, Event, Task
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, FinishReason, Host, ToolCall, Usage
from lsbuild_runtime.tools import Sends, ToolInfo, ToolResult


class Step(Struct, frozen=True):
    """One answer: its words, its calls as (name, arguments), how it ends and what it costs."""

    text: str = ""
    calls: Sequence[tuple[str, Any]] = ()
    finish: FinishReason | None = None
    tokens: int | None = None


def say(text: str, **more: Any) -> Step:
    """An answer in words."""
    return Step(text, **more)


def call(name: str, arguments: Any = None, **more: Any) -> Step:
    """An answer that is one call; arguments that are no text are written as JSON."""
    return Step(calls=((name, {} if arguments is None else arguments),), **more)


Script = Callable[[Chat], Step]


class Scripted:
    """Implements ports.Inference: says the steps one after the other, the last again and again; or what a function says.

    Words come one by one, each is a token. A forced or forbidden call is obeyed as a local model must: without
    ``tool_choice`` calls are left out when it is "none", unless the model is ``stubborn``.
    """

    def __init__(self, *steps: Step | str, script: Script | None = None, stubborn: bool = False) -> None:
        self.steps = [Step(step) if isinstance(step, str) else step for step in steps]
        self.script = script
        self.stubborn = stubborn
        self.asked: list[Chat] = []
        self.contexts: list[Context] = []
        self.closed = threading.Event()
        """Set when an answer ended, by whatever way."""
        self._lock = threading.Lock()
        self._calls = 0

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        with self._lock:
            place = len(self.asked)
            self.asked.append(chat)
            self.contexts.append(context)
        step = self.script(chat) if self.script is not None else self.steps[min(place, len(self.steps) - 1)]
        calls = self._made(step.calls if chat.tool_choice != "none" or self.stubborn else ())
        words = step.text.split(" ") if step.text else []
        most = chat.sampling.max_tokens
        cut = most is not None and len(words) > most
        said = words[:most] if cut else words
        try:
            for index, word in enumerate(said):
                context.check()
                yield Delta(text=word if index == 0 else f" {word}")
            if calls:
                yield Delta(tool_calls=calls)
            finish = step.finish or ("length" if cut else "tool_calls" if calls else "stop")
            tokens = len(said) + 5 * len(calls) if step.tokens is None else step.tokens
            yield Delta(finish=finish, usage=Usage(10 * len(chat.messages), tokens))
        finally:
            self.closed.set()

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """It only chats."""
        raise NotImplementedError

    def _made(self, calls: Sequence[tuple[str, Any]]) -> tuple[ToolCall, ...]:
        made = []
        for name, arguments in calls:
            with self._lock:
                self._calls += 1
                number = self._calls
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            made.append(ToolCall(f"call_{number}", name, text))
        return tuple(made)


ANYTHING: Mapping[str, Any] = {"type": "object"}
TEXT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


class Tools:
    """Implements tools.ToolRuntime over functions that take (arguments, context); remembers every call."""

    def __init__(self, **functions: Callable[[Mapping[str, Any], Context], Any]) -> None:
        self._functions = functions
        self.infos: dict[str, ToolInfo] = {name: ToolInfo(name, f"Does {name}.", ANYTHING) for name in functions}
        self.made: list[tuple[str, Mapping[str, Any]]] = []
        self.contexts: list[Context] = []

    def described(
        self,
        name: str,
        parameters: Mapping[str, Any] = ANYTHING,
        sends: Sends = "nothing",
        *,
        trusted: bool = False,
        approval: bool = False,
    ) -> Tools:
        """The same with another description of one tool."""
        self.infos[name] = ToolInfo(name, f"Does {name}.", parameters, sends, trusted, approval)
        return self

    def tools(self, context: Context) -> Sequence[ToolInfo]:  # noqa: ARG002
        """See tools.ToolRuntime."""
        return tuple(self.infos.values())

    def call(self, name: str, arguments: Mapping[str, Any], context: Context) -> ToolResult:
        """See tools.ToolRuntime; a function's text is the result."""
        if name not in self._functions:
            raise ApiError(404, f"there is no tool {name!r}", code="not_found")
        self.made.append((name, arguments))
        self.contexts.append(context)
        result = self._functions[name](arguments, context)
        return result if isinstance(result, ToolResult) else ToolResult(str(result))

    def bound(self, group: str = "group") -> tuple[Bound, ...]:
        """For a Task."""
        return tuple(Bound(info.name, group, info, self) for info in self.infos.values())


def task(tools: Tools | None = None, question: str = "Go.", **changes: Any) -> Task:
    """A task with one question; ``chat`` replaces it."""
    chat = changes.pop("chat", None) or Chat([{"role": "user", "content": question}], tool_choice="auto")
    return Task(chat, tools.bound() if tools is not None else (), **changes)


def of(kind: type[Any], events: Sequence[Event]) -> list[Any]:
    """The events of one type."""
    return [event for event in events if isinstance(event, kind)]


def text_of(events: Sequence[Event]) -> str:
    """All words of a run."""
    return "".join(event.text for event in of(Delta, events))


def open_scripted(service: Service, root: Path, host: Host) -> Scripted:
    """Entry of a Scripted model: ``config.steps`` are its steps, as JSON."""
    return Scripted(*(msgspec.convert(step, Step) for step in service.config["steps"]))


def open_kit(service: Service, root: Path, host: Host) -> Tools:
    """Entry of three tools: ``echo`` says its text, ``break`` raises, ``mail`` sends it away."""

    def broken(arguments: Mapping[str, Any], context: Context) -> str:
        raise RuntimeError("secret")

    tools = Tools(echo=lambda arguments, _: f"<{arguments['text']}>", broken=broken, mail=lambda *_: "sent")
    return tools.described("echo", TEXT).described("mail", TEXT, "external")


KIT = Service(api="tool_runtime", name="kit", provider="inline::kit", entry="scripted:open_kit")


def scripted(name: str, *steps: Step) -> Service:
    """A model of that name."""
    config = {"steps": msgspec.to_builtins(steps)}
    return Service(api="inference", name=name, provider="inline::script", entry="scripted:open_scripted", config=config)


def agent_of(model: str, *tools: str, **config: Any) -> Service:
    """The agent ``NAME-agent`` over a model, with tools."""
    return Service(
        api="agents", name=f"{model}-agent", provider="inline::agent", entry="lsbuild_runtime.agents.service:open_agent",
        config={"model": model, "tools": list(tools), **config},
        needs=(f"inference/{model}", *(f"tool_runtime/{name}" for name in tools if name != "file_search")),
    )  # fmt: skip
