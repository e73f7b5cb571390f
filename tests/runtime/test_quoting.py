"""Sentences of passages: wrapped lines, and the quote that is the sentence nearest to the question."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, cast

from lsbuild_runtime.agents.quoting import corrected, sentences
from lsbuild_runtime.agents.service import Agent, Settings
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Chat, Completion, Delta, Embedded, Host
from small_services import Shelf

MANUAL = "The setting `server.queue` is the queue.\nThe setting `server.body` is the largest body.\nPort 8321 is taken."


WRAPPED = (
    "The pump has a filter that catches whatever the river carries, and\n*oil* that has to be changed once in every two\n"
    "hundred hours.  The valve behind it is closed by\nhand.\n\n"
    "- a first entry of a list that is quite long as entries go\n- a second\n"
)


def test_a_wrapped_sentence_is_one_sentence() -> None:
    first, second, *entries = sentences(WRAPPED)
    assert first.startswith("The pump has a filter")
    assert first.endswith("once in every two hundred hours.")
    assert second == "The valve behind it is closed by hand."
    assert entries == ["- a first entry of a list that is quite long as entries go", "- a second"]


def test_lines_that_are_no_wrapped_prose_stay_apart() -> None:
    code = "import sqlite3\nconnection = sqlite3.connect(database, timeout=5.0)\n    cursor = connection.cursor()\n"
    code += ">>> a\n| b | c |\n.. note::"
    assert len(sentences(code)) == 6
    assert sentences("Everything that follows is said about the valve:\nclosed") == [
        "Everything that follows is said about the valve:",
        "closed",
    ]


def test_the_nearest_sentence_replaces_what_the_model_quotes() -> None:
    def nearest(question: str, given: Sequence[str]) -> int:
        assert question == "q"
        return given.index("The setting `server.body` is the largest body.")

    wanted = "According to [1]: The setting `server.body` is the largest body."
    assert corrected("According to [1]: Port 8321 is taken.", [MANUAL], "q", nearest) == wanted
    assert corrected("I don't know.", [MANUAL], "q", nearest) == "I don't know."


class Quoting:
    """A model that quotes badly."""

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:  # noqa: ARG002
        """The same for every question."""
        yield Delta(text="According to [1]: oil")
        yield Delta(finish="stop")

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """Not asked for."""
        raise NotImplementedError


class Letter:
    """A host with one model, whose vector says which letter a text begins with."""

    def get(self, api: str, name: str) -> Any:
        assert (api, name) == ("embeddings", "letters")
        return self

    def embed(self, inputs: Sequence[str], _: Context) -> Embedded:
        vectors = (array("f", [float(text[0] == letter) for letter in "TV"]).tobytes() for text in inputs)
        return Embedded(tuple(vectors), 1)


def test_the_store_s_own_model_chooses_the_sentence() -> None:
    settings = Settings(
        model="m", instructions="", vector_stores=("manuals",), passages=1, tokens=64, wall=5.0,
        prompt="{passages}{question}", threshold=0.0, keep_lines=False, exact=True, nearest=True,
    )  # fmt: skip
    agent = Agent(settings, Quoting(), {"manuals": Shelf()}, host=cast("Host", Letter()))
    deltas = list(agent.chat(Chat([{"role": "user", "content": "The red pump needs oil"}]), Context()))
    assert "".join(delta.text for delta in deltas) == "According to [1]: The red pump needs oil every week."
    (note,) = (note for delta in deltas for note in delta.annotations)
    assert (note.line_start, note.line_end) == (2, 2)
