"""Passages around an answer: found before the question is asked, shown with it, and cited after; it asks no model to answer."""

from __future__ import annotations

import re
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from operator import mul
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.agents.quoting import Nearest, exact, longest_shared
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Annotation, Chat, Completion, Delta, Embeddings, Hit, Host, Inference, VectorIO
from lsbuild_runtime.retrieve import Models, Ranking, search
from lsbuild_runtime.safety.looking import Blocked, Look

SHORTEST_QUOTE = 16
"""Characters that an answer must share with a passage to count as a quote of it."""

_ALONE = Models()
_PLACES = re.compile(r"\{(passages|question)\}")
_CITATION = re.compile(r"\[(\d{1,2})\]")


class Showing(Struct, frozen=True, kw_only=True):
    """Which passages are shown and how. ``threshold`` is the lowest score (0..1) of a passage that is shown.

    ``keep_lines`` shows passages with their line breaks; otherwise each is one line, as the tiny model knows them.
    ``exact`` makes a quote of the answer the sentence of the passage it is closest to, letter for letter; ``nearest``
    makes it the sentence that is nearest in meaning to the question.
    """

    passages: int
    prompt: str
    threshold: float
    keep_lines: bool
    exact: bool = False
    nearest: bool = False


class Passage(Struct, frozen=True):
    """A found passage, the store it is from, and its text as the model sees it."""

    store: str
    hit: Hit
    shown: str


class Grounding:
    """The passages of ``stores`` around one question; models around a store may search in other words and rank again.

    ``look`` are the shields that see each passage: what they block is not shown.
    """

    def __init__(
        self,
        showing: Showing,
        stores: Mapping[str, VectorIO],
        around: Mapping[str, Models],
        host: Host | None,
        look: Look,
    ) -> None:
        self._showing = showing
        self._stores = stores
        self._around = around
        self._host = host
        self._look = look
        self._ranking = Ranking(threshold=showing.threshold)

    def retrieve(self, question: str, earlier: Sequence[Mapping[str, Any]], context: Context) -> list[Passage]:
        """The best passages of all stores, best first; equal scores stay in the order of the stores."""
        limit = self._showing.passages
        asked: dict[str, tuple[str, ...]] = {}  # by the model that rewrites for a store: each is asked once
        found: list[Passage] = []
        for name, store in self._stores.items():
            context.check()
            around = self._around.get(name, _ALONE)
            if around.rewrite not in asked:
                asked[around.rewrite] = around.queries(question, context, earlier)
            with context.watch.span(f"search {name}", **{"gen_ai.data_source.id": name}):
                queries = asked[around.rewrite]
                hits = search(store, queries, context, limit, self._ranking, reranker=around.reranker())
            found.extend(self._passed(name, hits, context))
        return sorted(found, key=lambda passage: -passage.hit.score)[:limit]

    def _passed(self, store: str, hits: Sequence[Hit], context: Context) -> Iterator[Passage]:
        for hit in hits:
            try:
                text = self._look.look(hit.text, "retrieved", context)
            except Blocked:
                continue
            yield Passage(store, replace(hit, text=text), self.shown(text))

    def asked(self, message: Mapping[str, Any], passages: Sequence[Passage], question: str) -> Mapping[str, Any]:
        """The user's message with the passages before its question; as it came where nothing was found."""
        return {**message, "content": fill(self._showing.prompt, passages, question)} if passages else message

    def quoting(self, model: Inference, passages: Sequence[Passage], question: str) -> Inference:
        """``model``, its quotes of the passages made exact where the agent says so."""
        if not (self._showing.exact and passages):
            return model
        return _Exact(model, [passage.hit.text for passage in passages], question, self._nearest(passages[0].store))

    def _nearest(self, store: str) -> Embeddings | None:
        """The model that the store was embedded with, where sentences are chosen by meaning."""
        if not self._showing.nearest or self._host is None:
            return None
        model: Embeddings = self._host.get("embeddings", self._stores[store].info().embedding)
        return model

    def shown(self, text: str) -> str:
        """A passage as the model sees it."""
        return text if self._showing.keep_lines else " ".join(text.split())


class _Exact:
    """Implements ports.Inference over a model whose quotes are made exact; ``nearest`` chooses sentences by cosine."""

    def __init__(self, model: Inference, texts: Sequence[str], question: str, nearest: Embeddings | None) -> None:
        self._model = model
        self._texts = texts
        self._question = question
        self._nearest = nearest

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        chosen = None if self._nearest is None else _by_cosine(self._nearest, context)
        return exact(self._model.chat(chat, context), self._texts, self._question, chosen)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        return self._model.complete(completion, context)


def _by_cosine(model: Embeddings, context: Context) -> Nearest:
    def nearest(question: str, sentences: Sequence[str]) -> int:
        wanted, *found = (array("f", model.embed([text], context).vectors[0]) for text in (question, *sentences))
        return max(range(len(found)), key=lambda index: sum(map(mul, wanted, found[index])))

    return nearest


def last_user(messages: Sequence[Mapping[str, Any]]) -> int:
    """The index of the last user message; ApiError 400 when there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "user":
            return index
    raise ApiError(400, "messages: an agent needs a user message", param="messages", code="invalid_value")


def fill(form: str, passages: Sequence[Passage], question: str) -> str:
    """``form`` with its places filled in one pass, so that a passage that holds ``{question}`` stays what it is."""
    values = {"passages": numbered(passages), "question": question}
    return _PLACES.sub(lambda match: values[match[1]], form)


def numbered(passages: Sequence[Passage], first: int = 1) -> str:
    """``[1] text`` or ``[1] heading``, a line break and the text; each passage ends with a line break."""
    return "".join(
        f"[{number}] {passage.hit.heading}\n{passage.shown}\n"
        if passage.hit.heading
        else f"[{number}] {passage.shown}\n"
        for number, passage in enumerate(passages, first)
    )


def cited(deltas: Iterator[Delta], passages: Sequence[Passage]) -> Generator[Delta, None, None]:
    """Pass the deltas through; the one that ends a choice gets the annotations of that choice's whole text."""
    texts: dict[int, str] = {}
    for delta in deltas:
        text = texts[delta.index] = texts.get(delta.index, "") + delta.text
        if delta.finish is not None and passages:
            yield replace(delta, annotations=(*delta.annotations, *citations(text, passages)))
        else:
            yield delta


def citations(answer: str, passages: Sequence[Passage]) -> list[Annotation]:
    """One Annotation for each ``[n]`` that names a passage.

    What stands around the mark, up to the marks beside it, is compared with the passage: the longest run of at least
    SHORTEST_QUOTE characters that both share is the quote, and the offsets and lines are its own.
    """
    marks = list(_CITATION.finditer(answer))
    found = []
    for place, mark in enumerate(marks):
        number = int(mark[1])
        if not 1 <= number <= len(passages):
            continue
        before = answer[marks[place - 1].end() if place else 0 : mark.start()]
        after = answer[mark.end() : marks[place + 1].start() if place + 1 < len(marks) else len(answer)]
        found.append(annotation(passages[number - 1], (after, before), mark.start()))
    return found


def annotation(passage: Passage, said: Sequence[str], index: int) -> Annotation:
    """The citation of ``passage`` at ``index`` of the answer, narrowed to what one of the texts ``said`` quotes of it."""
    hit = passage.hit
    whole = Annotation(
        file_id=hit.file_id,
        filename=hit.filename,
        store=passage.store,
        start=hit.start,
        end=hit.end,
        line_start=hit.line_start,
        line_end=hit.line_end,
        heading=hit.heading,
        index=index,
    )
    # What is said is one line also where the passage was shown as several.
    forms = dict.fromkeys((passage.shown, " ".join(passage.shown.split())))
    shared = ((*longest_shared(form, text), form) for form in forms for text in said)
    place, length, form = max(shared, key=lambda run: run[1])
    if length < SHORTEST_QUOTE:
        return whole
    start, end = original(hit.text, form, place, length)
    quote = hit.text[start:end]
    if len(hit.text) != hit.end - hit.start:  # the passage is not its document's text letter for letter
        return replace(whole, quote=quote)
    line = hit.line_start + hit.text.count("\n", 0, start)
    return replace(
        whole,
        start=hit.start + start,
        end=hit.start + end,
        line_start=line,
        line_end=line + quote.count("\n"),
        quote=quote,
    )


def original(text: str, shown: str, place: int, length: int) -> tuple[int, int]:
    """Where ``shown[place : place + length]`` stands in ``text``, which differs from it in blanks only."""
    if text == shown:
        return place, place + length
    solid = [position for position, character in enumerate(text) if not character.isspace()]
    before = sum(not character.isspace() for character in shown[:place])
    within = sum(not character.isspace() for character in shown[place : place + length])
    return solid[before], solid[before + within - 1] + 1
