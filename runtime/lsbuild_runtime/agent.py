"""The agent's loop: search, ask the model with what was found, pass its words through, cite; it knows no HTTP."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import mul
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.counting import count
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Annotation, Chat, Completion, Delta, Embeddings, Hit, Host, Inference, VectorIO
from lsbuild_runtime.quoting import Nearest, exact, longest_shared
from lsbuild_runtime.retrieve import Models, Ranking, models_around, search

INSTRUCTIONS = "instructions.txt"
DEFAULT_PROMPT = "{passages}\n{question}"
"""The form that the built-in tiny model is trained on: each passage ends with a line break, then an empty line."""
SHORTEST_QUOTE = 16
"""Characters that an answer must share with a passage to count as a quote of it."""

_ALONE = Models()
_PLACES = re.compile(r"\{(passages|question)\}")
_CITATION = re.compile(r"\[(\d{1,2})\]")


class Settings(Struct, frozen=True):
    """What the manifest says about one agent. ``threshold`` is the lowest score (0..1) of a passage that is shown.

    ``keep_lines`` shows passages with their line breaks; otherwise each is one line, as the tiny model knows them.
    ``exact`` makes a quote of the answer the sentence of the passage it is closest to, letter for letter; ``nearest``
    makes it the sentence that is nearest in meaning to the question.
    """

    model: str
    instructions: str
    vector_stores: tuple[str, ...]
    passages: int
    tokens: int
    wall: float
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


class Agent:
    """Implements ports.Inference over another model.

    The question is the last user message. It is replaced by the prompt form, filled with the best passages of all
    stores, which models around them may search in other words and rank again, and the instructions go before the
    conversation; everything else reaches the model as it came, tools of
    the client included. Where nothing was found the model gets the question alone: what to say then is for its
    instructions to decide. ``[n]`` in the answer becomes an Annotation for passage n, in the delta that ends the choice.
    """

    def __init__(
        self,
        settings: Settings,
        model: Inference,
        stores: Mapping[str, VectorIO],
        around: Mapping[str, Models] | None = None,
        host: Host | None = None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._stores = stores
        self._around = around or {}
        self._host = host
        self._ranking = Ranking(threshold=settings.threshold)

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference. ApiError 400 without a user message, 408 when the wall limit is reached."""
        limited = self._limited(context)
        asked, question, passages = self._asked(chat, limited)
        answer = self._model.chat(asked, limited)
        if self._settings.exact and passages:
            texts = [passage.hit.text for passage in passages]
            answer = exact(answer, texts, question, self._nearest(passages[0].store, limited))
        return cited(answer, passages)

    def count(self, chat: Chat, context: Context) -> int:
        """See ports.Counter: with the instructions, and the passages that a search finds for the question."""
        limited = self._limited(context)
        return count(self._model, self._asked(chat, limited)[0], limited)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:  # noqa: ARG002 - refused
        """An agent needs a conversation."""
        raise ApiError(400, "an agent answers POST /v1/chat/completions", param="model")

    def _limited(self, context: Context) -> Context:
        return replace(context, deadline=min(context.deadline, time.monotonic() + self._settings.wall))

    def _asked(self, chat: Chat, context: Context) -> tuple[Chat, str, list[Passage]]:
        """What the model is asked, the question in it, and the passages that were found."""
        place = last_user(chat.messages)
        question = str(chat.messages[place].get("content") or "")
        passages = self._retrieve(question, chat.messages[:place], context)
        asked = replace(
            chat,
            messages=self._messages(chat.messages, place, question, passages),
            sampling=replace(chat.sampling, max_tokens=self._tokens(chat.sampling.max_tokens)),
        )
        return asked, question, passages

    def _retrieve(self, question: str, earlier: Sequence[Mapping[str, Any]], context: Context) -> list[Passage]:
        """The best passages of all stores, best first; equal scores stay in the order of the stores."""
        limit = self._settings.passages
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
            found.extend(Passage(name, hit, self._shown(hit.text)) for hit in hits)
        return sorted(found, key=lambda passage: -passage.hit.score)[:limit]

    def _nearest(self, store: str, context: Context) -> Nearest | None:
        """Chooses sentences by the cosine of the model that the store was embedded with."""
        if not self._settings.nearest or self._host is None:
            return None
        model: Embeddings = self._host.get("embeddings", self._stores[store].info().embedding)

        def nearest(question: str, sentences: Sequence[str]) -> int:
            wanted, *found = (array("f", model.embed([text], context).vectors[0]) for text in (question, *sentences))
            return max(range(len(found)), key=lambda index: sum(map(mul, wanted, found[index])))

        return nearest

    def _messages(
        self, messages: Sequence[Mapping[str, Any]], place: int, question: str, passages: Sequence[Passage]
    ) -> list[Mapping[str, Any]]:
        changed = list(messages)
        if passages:
            changed[place] = {**messages[place], "content": fill(self._settings.prompt, passages, question)}
        instructions = self._settings.instructions
        if not instructions:
            return changed
        if changed[0]["role"] in ("system", "developer"):  # one system message: more than templates have to know
            changed[0] = {**changed[0], "content": f"{instructions}\n\n{changed[0]['content']}"}
            return changed
        return [{"role": "system", "content": instructions}, *changed]

    def _shown(self, text: str) -> str:
        return text if self._settings.keep_lines else " ".join(text.split())

    def _tokens(self, asked: int | None) -> int:
        return self._settings.tokens if asked is None else min(asked, self._settings.tokens)


def open_agent(service: Service, root: Path, host: Host) -> Inference:
    """The entry for services of the API ``agents``; opens its model and its stores."""
    settings = settings_of(service, root)
    stores = {name: host.get("vector_io", name) for name in settings.vector_stores}
    around = {name: models_around(host.find(("vector_io",), name), host) for name in stores}
    return Agent(settings, host.get("inference", settings.model), stores, around, host)


def settings_of(service: Service, root: Path) -> Settings:
    """The service's config with its defaults, and its instructions from ``instructions.txt`` in its folder."""
    config = service.config
    instructions = (root / service.path / INSTRUCTIONS).read_text(encoding="utf-8") if service.path else ""
    return Settings(
        model=config["model"],
        instructions=instructions.strip(),
        vector_stores=tuple(config.get("vector_stores", ())),
        passages=config.get("passages", 3),
        tokens=config.get("tokens", 512),
        wall=config.get("wall", 30.0),
        prompt=config.get("prompt", DEFAULT_PROMPT),
        threshold=config.get("threshold", 0.0),
        keep_lines=config.get("keep_lines", False),
        exact=config.get("exact", False),
        nearest=config.get("nearest", False),
    )


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


def numbered(passages: Sequence[Passage]) -> str:
    """``[1] text`` or ``[1] heading``, a line break and the text; each passage ends with a line break."""
    return "".join(
        f"[{number}] {passage.hit.heading}\n{passage.shown}\n"
        if passage.hit.heading
        else f"[{number}] {passage.shown}\n"
        for number, passage in enumerate(passages, 1)
    )


def cited(deltas: Iterator[Delta], passages: Sequence[Passage]) -> Iterator[Delta]:
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
    place, length = max((longest_shared(passage.shown, text) for text in said), key=lambda run: run[1])
    if length < SHORTEST_QUOTE:
        return whole
    start, end = original(hit.text, passage.shown, place, length)
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
