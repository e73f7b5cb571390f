"""The agent's loop: what the model is asked, what is cited, what is limited."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lsbuild_runtime.agents.grounding import Passage, citations, fill
from lsbuild_runtime.agents.quoting import corrected, exact, longest_shared
from lsbuild_runtime.agents.service import Agent, Settings, open_agent
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Annotation, Chat, Completion, Delta, Fusion, Hit, Sampling, SearchMode, Usage
from small_services import DOCUMENT, HELPER, SHELF, Parrot, Shelf


class Scripted:
    """A model that says what it is told to say, and remembers what it was asked."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.asked: Chat | None = None

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """Say the pieces."""
        self.asked = chat
        for piece in self.pieces:
            context.check()
            yield Delta(text=piece)
        yield Delta(finish="stop", usage=Usage(1, len(self.pieces)))

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """The same words."""
        raise NotImplementedError


class Fixed:
    """A store with one hit of a given score and text."""

    def __init__(self, text: str, score: float, **place: Any) -> None:
        self.hit = Hit("c", f"file-{text[:3]}", "f.md", text, score, **{"end": len(text), "line_start": 1, **place})
        self.limits: list[tuple[int, float]] = []

    def info(self) -> Any:
        """Not asked for."""
        raise NotImplementedError

    def search(
        self, query: str, context: Context, *, limit: int = 10, mode: SearchMode | None = None,  # noqa: ARG002
        filters: Mapping[str, Any] | None = None, threshold: float = 0.0,  # noqa: ARG002
        fusion: Fusion | None = None,  # noqa: ARG002
    ) -> list[Hit]:  # fmt: skip
        """The one hit, if it is good enough."""
        self.limits.append((limit, threshold))
        return [self.hit] if self.hit.score >= threshold else []


def settings(**changes: Any) -> Settings:
    """Settings of an agent called for by the tests."""
    values: dict[str, Any] = {
        "model": "m", "instructions": "Be kind.", "vector_stores": ("s",), "passages": 3, "tokens": 64, "wall": 5.0,
        "prompt": "{passages}\n{question}", "threshold": 0.0, "keep_lines": False,
    }  # fmt: skip
    return Settings(**{**values, **changes})


def user(text: str) -> dict[str, Any]:
    """A user message."""
    return {"role": "user", "content": text}


def run(agent: Agent, *messages: Mapping[str, Any], **sampling: Any) -> list[Delta]:
    """All deltas of one answer."""
    return list(agent.chat(Chat(messages, Sampling(**sampling)), Context()))


def cited(deltas: Sequence[Delta]) -> list[Annotation]:
    """All annotations of an answer."""
    return [found for delta in deltas for found in delta.annotations]


def test_the_prompt_has_the_form_the_tiny_model_is_trained_on() -> None:
    model = Scripted("ok")
    store = {"s": Fixed("First sentence\nof two. Second.", 0.9, heading="Guide > Install"), "t": Fixed("Plain.", 0.8)}
    run(Agent(settings(), model, store), user("How?"))
    assert model.asked is not None
    assert model.asked.messages == [
        {"role": "system", "content": "Be kind."},
        user("[1] Guide > Install\nFirst sentence of two. Second.\n[2] Plain.\n\nHow?"),
    ]


def test_lines_are_kept_if_the_spec_says_so() -> None:
    model = Scripted("ok")
    run(Agent(settings(keep_lines=True), model, {"s": Fixed("a\nb", 0.9)}), user("How?"))
    assert model.asked is not None
    assert model.asked.messages[-1] == user("[1] a\nb\n\nHow?")


def test_without_a_passage_the_model_gets_the_question_alone() -> None:
    model = Scripted("I do not know [1].")
    deltas = run(Agent(settings(threshold=0.5), model, {"s": Fixed("Text.", 0.4)}), user("How?"))
    assert model.asked is not None
    assert model.asked.messages[-1] == user("How?")
    assert cited(deltas) == []


def test_a_form_is_filled_in_one_pass() -> None:
    passage = Passage("s", Fixed("{question} {passages}", 1.0).hit, "{question} {passages}")
    assert fill("Q: {question}\n{passages}", [passage], "{passages}") == "Q: {passages}\n[1] {question} {passages}\n"


def test_the_best_passages_of_all_stores_are_shown() -> None:
    model = Scripted("ok")
    stores = {name: Fixed(f"text {name}", score) for name, score in (("a", 0.2), ("b", 0.9), ("c", 0.5))}
    run(Agent(settings(passages=2, threshold=0.1), model, stores), user("?"))
    assert model.asked is not None
    assert model.asked.messages[-1]["content"] == "[1] text b\n[2] text c\n\n?"
    assert stores["a"].limits == [(2, 0.1)]


def test_the_conversation_reaches_the_model_as_it_came() -> None:
    model = Scripted("ok")
    history = [
        {"role": "system", "content": "Mind the gap."}, user("first"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
        {"role": "tool", "tool_call_id": "c", "content": "result"},
    ]  # fmt: skip
    tools = [{"type": "function", "function": {"name": "f"}}]
    agent = Agent(settings(), model, {"s": Fixed("Text.", 0.9)})
    list(agent.chat(Chat(history, tools=tools, tool_choice="required", extra={"a": 1}), Context()))
    assert model.asked is not None
    assert model.asked.messages[0] == {"role": "system", "content": "Be kind.\n\nMind the gap."}
    assert model.asked.messages[1] == user("[1] Text.\n\nfirst")
    assert model.asked.messages[2:] == history[2:]
    assert (model.asked.tools, model.asked.tool_choice, model.asked.extra) == (tools, "required", {"a": 1})
    assert history[1] == user("first")


@pytest.mark.parametrize(("asked", "given"), [(None, 64), (10, 10), (1000, 64)])
def test_the_limit_of_tokens_is_the_smaller_one(asked: int | None, given: int) -> None:
    model = Scripted("ok")
    run(Agent(settings(), model, {}), user("?"), max_tokens=asked)
    assert model.asked is not None
    assert model.asked.sampling.max_tokens == given


def test_the_wall_limit_is_a_408() -> None:
    class Slow(Scripted):
        def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
            for delta in super().chat(chat, context):
                time.sleep(0.02)
                yield delta

    with pytest.raises(ApiError) as caught:
        run(Agent(settings(wall=0.03), Slow(*"abcdefgh"), {}), user("?"))
    assert caught.value.status == 408


def test_cancelling_the_request_cancels_the_run() -> None:
    context = Context()
    deltas = Agent(settings(), Parrot(), {}).chat(Chat([user("a b c d")]), context)
    next(deltas)
    context.cancel.set()
    with pytest.raises(Cancelled):
        list(deltas)


def test_an_agent_needs_a_user_message_and_chats_only() -> None:
    agent = Agent(settings(), Scripted(), {})
    with pytest.raises(ApiError, match="needs a user message") as caught:
        run(agent, {"role": "system", "content": "x"})
    assert caught.value.status == 400
    with pytest.raises(ApiError):
        agent.complete(Completion("x"), Context())


def test_a_quote_after_its_mark_is_placed_exactly() -> None:
    model = Scripted("According to [1]", ": The red pump needs oil", " every week.")
    deltas = run(Agent(settings(), model, {"manuals": Shelf()}), user("red pump"))
    assert [delta.annotations for delta in deltas[:-1]] == [()] * 3
    (found,) = cited(deltas)
    assert (found.file_id, found.filename, found.store, found.heading) == ("file-1", "manual.md", "manuals", "Pumps")
    assert found.quote == "The red pump needs oil every week."
    assert DOCUMENT[found.start : found.end] == found.quote
    assert (found.line_start, found.line_end) == (2, 2)
    assert found.index == len("According to ")


def test_a_quote_before_its_mark_and_across_lines() -> None:
    text = "One line of prose\n  that goes on here.\nAnother line."
    hit = Hit("c", "f", "f.md", text, 1.0, start=100, end=100 + len(text), line_start=7, line_end=9)
    passage = Passage("s", hit, " ".join(text.split()))
    (found,) = citations('It says "prose that goes on here." [1]', [passage])
    assert found.quote == "prose\n  that goes on here."
    assert (found.start, found.end) == (100 + text.index("prose"), 100 + text.index("\nAnother"))
    assert (found.line_start, found.line_end) == (7, 8)


def test_marks_without_a_quote_name_the_passage_and_wrong_marks_nothing() -> None:
    hit = Hit("c", "f", "f.md", "Some text.", 1.0, start=5, end=15, line_start=2, line_end=2)
    found = citations("Other words [1], and [2], [0] and [12].", [Passage("s", hit, hit.text)])
    assert [(one.start, one.end, one.line_start, one.quote) for one in found] == [(5, 15, 2, "")]


def test_a_passage_that_is_not_its_documents_text_keeps_its_own_place() -> None:
    hit = Hit("c", "f", "f.md", "Table row: one, two, three.", 1.0, start=0, end=900, line_start=1, line_end=40)
    (found,) = citations("[1] Table row: one, two, three.", [Passage("s", hit, hit.text)])
    assert (found.start, found.end, found.line_end, found.quote) == (0, 900, 40, "Table row: one, two, three.")


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("abcdef", "xxcdexx", (2, 3)),
        ("abc", "xyz", (0, 0)),
        ("", "a", (0, 0)),
        ("a b c", "- b -", (2, 1)),
        ("aaaa", "aa", (0, 2)),
    ],
)
def test_the_longest_shared_run(text: str, other: str, expected: tuple[int, int]) -> None:
    assert longest_shared(text, other) == expected


def test_the_entry_reads_config_and_instructions(tmp_path: Path) -> None:
    class Small:
        def get(self, api: str, name: str) -> Any:
            return {"inference/org/parrot": Parrot(), "vector_io/manuals": Shelf()}[f"{api}/{name}"]

        def find(self, apis: Sequence[str], name: str) -> Service:  # noqa: ARG002
            return SHELF

    (tmp_path / "agents/helper").mkdir(parents=True)
    (tmp_path / "agents/helper/instructions.txt").write_text("Be brief.\n", encoding="utf-8")
    service = Service(
        api="agents",
        name="helper",
        provider="inline::agent",
        entry=HELPER.entry,
        path="agents/helper",
        config=HELPER.config,
    )
    agent = open_agent(service, tmp_path, Small())
    deltas = list(agent.chat(Chat([user("valve [1]")], Sampling(temperature=0)), Context()))
    said = "".join(delta.text for delta in deltas)
    assert said == "[1] Valves\nA valve closes slowly.\n\nvalve [1]"
    assert cited(deltas)[0].quote == "A valve closes slowly."


MANUAL = (
    "The setting `server.queue` is the queue.\nThe setting `server.body` is the largest body.\nPort 8321 is taken. Ask."
)


@pytest.mark.parametrize(
    ("answer", "question", "wanted"),
    [
        ("According to [1]: Port 8321 is taken.", "", "According to [1]: Port 8321 is taken."),
        ("According to [1]: Port 8321188220 is", "", "According to [1]: Port 8321 is taken."),
        (
            "According to [1]: The setting `server.xyz xyz",
            "how large is the body",
            "According to [1]: The setting `server.body` is the largest body.",
        ),
        ("According to [1]: nothing alike", "", "According to [1]: nothing alike"),
        ("According to [1]: xyxyxyxy", "which port is taken?", "According to [1]: Port 8321 is taken."),
        ("According to [7]: Port 832", "", "According to [7]: Port 832"),
        ("I don't know.", "", "I don't know."),
    ],
)
def test_a_quote_is_made_exact(answer: str, question: str, wanted: str) -> None:
    assert corrected(answer, [MANUAL], question) == wanted


def test_an_exact_answer_comes_in_one_piece_and_keeps_its_end() -> None:
    usage = Usage(3, 4)
    pieces = [Delta(text="See [1]: Port 8321"), Delta(text="99"), Delta(finish="stop"), Delta(usage=usage)]
    given = list(exact(iter(pieces), [MANUAL], ""))
    assert [delta.text for delta in given if delta.text] == ["See [1]: Port 8321 is taken."]
    assert [delta.finish for delta in given if delta.finish] == ["stop"]
    assert given[-1].usage == usage
    assert len(given) == 3
