"""Small real shields for tests: one that knows bad words, one that cannot look, and a model that judges by them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Host, Usage
from lsbuild_runtime.safety import Action, Category, Where
from lsbuild_runtime.safety.judged import Judged, Mark, Outcome, Settings


class Words:
    """Implements judged.Judge: a text is bad when it has the word; ``seen`` is what it was asked about.

    It cannot look at a text with the word ``break``, and has a fault that shows at the word ``fault``.
    """

    def __init__(self, word: str = "bad") -> None:
        self.word = word
        self.seen: list[tuple[str, Where]] = []

    def categories(self) -> tuple[Category, ...]:
        """See judged.Judge."""
        return (Category(self.word, ("S1",), ("violence",)),)

    def judge(self, text: str, where: Where, context: Context) -> Sequence[Mark]:  # noqa: ARG002
        """See judged.Judge."""
        self.seen.append((text, where))
        if "break" in text:
            raise ApiError(502, "out of order", type="server_error", retry_after=7)
        if "fault" in text:
            raise ValueError("nobody expected this")
        found = self.word in text
        return [Mark(self.word, 0.9 if found else 0.125, found)]


def open_words(service: Service, root: Path, host: Host) -> Judged:
    """Entry: ``config`` has ``word``, ``action``, ``every`` and ``missing``, which keeps it from being opened."""
    config = service.config
    if config.get("missing"):
        raise ApiError(503, "its weights are missing", type="server_error")
    action: Action = config.get("action", "block")
    word = config.get("word", "bad")
    outcomes = {word: Outcome(action, f"It is {word}.")}
    return Judged(service.name, Words(word), Settings(every=config.get("every")), outcomes)


def words(name: str = "words", cost: int = 1, **config: Any) -> Service:
    """Such a shield."""
    return Service(
        api="safety", name=name, provider="inline::words", entry="small_shields:open_words", config=config,
        metadata={"cost": cost},
    )  # fmt: skip


class Guardian:
    """A language model that answers as Llama Guard does: unsafe is what has the word ``bomb`` (S9) or ``vote`` (S13)."""

    def __init__(self, answer: str | None = None) -> None:
        self.answer = answer
        self.prompts: list[str] = []
        self.chats: list[Chat] = []

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """One answer of two lines, in pieces."""
        context.check()
        prompt = str(chat.messages[-1]["content"])
        self.prompts.append(prompt)
        self.chats.append(chat)
        said = re.findall(r"^(?:User|Agent): (.*?)\n\n<END", prompt, re.DOTALL | re.MULTILINE)
        text = said[-1] if said else prompt
        codes = [code for word, code in (("bomb", "S9"), ("vote", "S13"), ("rival", "S15")) if word in text]
        answer = self.answer or (f"\n\nunsafe\n{','.join(codes)}" if codes else "\n\nsafe")
        for piece in re.findall(r"\s+|\S+", answer):
            yield Delta(text=piece)
        yield Delta(finish="stop", usage=Usage(len(prompt.split()), 2))

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:  # noqa: ARG002
        """It only chats."""
        raise ApiError(400, "no completions", param="model")


def open_guardian(service: Service, root: Path, host: Host) -> Guardian:
    """Entry; ``config.answer`` is what it says whatever it is asked."""
    return Guardian(service.config.get("answer"))
