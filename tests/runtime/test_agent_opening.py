"""Agents whose runs begin with a search: the call is one of the run, and a small model reads passages before the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from lsbuild_runtime.agents.runs import CallBegun, CallEnded, Limits, StepDone, messages_after
from lsbuild_runtime.agents.service import Agent, Settings
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Annotation, Chat, Delta, Hit
from lsbuild_runtime.safety import Finding, Verdict, Where
from lsbuild_runtime.safety.looking import Look
from lsbuild_runtime.tools.file_search import NOTHING, FileSearch
from scripted import TEXT, Scripted, Step, Tools, call, of, text_of
from small_services import Shelf

QUOTE = "[1]: needs oil every week."


class Empty(Shelf):
    """A store in which nothing is near."""

    def search(self, *_: Any, **__: Any) -> list[Hit]:
        return []


def agent(model: Any, shelf: Shelf | None = None, look: Look | None = None, **changes: Any) -> Agent:
    stores = {"manuals": shelf or Shelf()}
    tools = {"file_search": FileSearch(stores, {}, 1), "kit": Tools(echo=lambda *_: "hm").described("echo", TEXT)}
    values: dict[str, Any] = {
        "model": "m", "instructions": "", "vector_stores": ("manuals",), "passages": 1, "tokens": 64, "wall": 5.0,
        "prompt": "{passages}\n{question}", "threshold": 0.0, "keep_lines": False, "search": "first",
    }  # fmt: skip
    return Agent(Settings(**{**values, **changes}), model, stores, tools=tools, look=look)


def chat(*messages: Mapping[str, Any] | str, **more: Any) -> Chat:
    told = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return Chat(told, **{"tool_choice": "none", **more})


def ran(subject: Agent, asked: Chat, **changes: Any) -> Sequence[Any]:
    task = replace(subject.task(asked, Context()), **changes)
    return list(subject.run(task, Context()))


def shown(model: Scripted, step: int = 0) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in model.asked[step].messages]


def test_the_search_is_a_call_of_the_run_and_stands_before_the_question() -> None:
    model = Scripted(QUOTE)
    events = ran(agent(model), chat("red pump"))
    assert [type(event) for event in events[:3]] == [CallBegun, CallEnded, StepDone]
    begun, ended, step = events[:3]
    assert (begun.tool.group, begun.call.arguments) == ("file_search", '{"query":"red pump"}')
    assert ended.outcome == "ok" and len(ended.result.found) == 1
    assert [message["role"] for message in step.messages] == ["assistant", "tool"]
    assert (step.used.calls, step.used.steps) == (1, 0)
    ((role, text),) = shown(model)
    assert role == "user" and text.startswith("[1] Pumps\n") and text.endswith("\nred pump")
    assert [tool["function"]["name"] for tool in model.asked[0].tools] == ["echo"]
    notes: list[Annotation] = [note for delta in of(Delta, events) for note in delta.annotations]
    assert [note.quote for note in notes] == ["needs oil every week."]


def test_the_model_may_call_its_other_tools_and_reads_the_passages_again() -> None:
    model = Scripted(call("echo", {"text": "a"}), QUOTE)
    events = ran(agent(model), chat("red pump"))
    assert [each.call.name for each in of(CallEnded, events)] == ["file_search", "echo"]
    assert [role for role, _ in shown(model, 1)] == ["user", "assistant", "tool"]
    assert shown(model, 1)[0] == shown(model, 0)[0]


def test_where_nothing_is_near_the_question_stands_alone() -> None:
    model = Scripted("I do not know.")
    events = ran(agent(model, Empty()), chat("red pump"))
    assert shown(model) == [("user", "red pump")]
    (ended,) = of(CallEnded, events)
    assert ended.result.text == NOTHING


def test_a_quote_is_made_exact() -> None:
    model = Scripted("[1]: needs oil evry weak")
    events = ran(agent(model, exact=True), chat("red pump"))
    assert text_of(events) == "[1]: The red pump needs oil every week."


def test_a_run_that_was_cut_goes_on_with_what_it_found() -> None:
    first = ran(agent(Scripted(QUOTE)), chat("red pump"))
    (step, *_), (ended,) = of(StepDone, first), of(CallEnded, first)
    model = Scripted(QUOTE)
    subject = agent(model)
    task = subject.task(chat("red pump"), Context())
    rest = replace(
        task, chat=replace(task.chat, messages=messages_after(task, [step])), found=ended.result.found, used=step.used
    )
    events = list(subject.run(rest, Context()))
    assert of(CallEnded, events) == []
    assert shown(model)[0][1].startswith("[1] Pumps\n")
    assert len(shown(model)) == 1


def test_each_turn_searches_for_its_own_question_and_older_searches_are_not_shown() -> None:
    earlier = ran(agent(Scripted("Weekly.")), chat("red pump"))
    steps = of(StepDone, earlier)
    turns = [{"role": "user", "content": "red pump"}, *(message for step in steps for message in step.messages)]
    model = Scripted("Slowly.")
    events = ran(agent(model), chat(*turns, "valve"))
    (begun,) = of(CallBegun, events)
    assert begun.call.arguments == '{"query":"valve"}'
    told = shown(model)
    assert told[:2] == [("user", "red pump"), ("assistant", "Weekly.")]
    assert told[2][1].endswith("\nvalve") and len(told) == 3


def test_the_search_keeps_to_limits_and_shields() -> None:
    class NoPumps:
        def check(self, text: str, where: Where, context: Context) -> Verdict:  # noqa: ARG002
            found = Finding("no-red", "c", "block", 0, 1, "no")
            return Verdict((), text, found if where == "retrieved" else None)

    model = Scripted("I do not know.")
    events = ran(agent(model, look=Look((NoPumps(),))), chat("red pump"))  # type: ignore[arg-type]
    (ended,) = of(CallEnded, events)
    assert (ended.outcome, ended.rule) == ("failed", "shield")
    assert shown(model) == [("user", "red pump")]
    none = ran(agent(Scripted("No.")), chat("red pump"), limits=Limits(calls=0))
    assert [(each.outcome, each.rule) for each in of(CallEnded, none)] == [("denied", "calls")]


def test_what_is_counted_is_what_is_asked() -> None:
    class Counting(Scripted):
        def count(self, chat: Chat, context: Context) -> int:  # noqa: ARG002
            self.asked.append(chat)
            return 7

    model = Counting(Step("x"))
    assert agent(model).count(chat("red pump"), Context()) == 7
    ((_, text),) = shown(model)
    assert text.startswith("[1] Pumps\n")
    assert [tool["function"]["name"] for tool in model.asked[0].tools] == ["echo"]
