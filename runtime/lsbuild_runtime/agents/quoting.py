"""Quotes of passages: what an answer shares with one, and an answer whose quotes are exact; plain text in, plain text out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.ports import Delta

LEAST = 8
"""Characters that a quote must share with a sentence to be taken for it."""

LEAST_WORDS = 3
"""Words of a sentence that can answer; a shorter one is a title or a mark."""

WRAPPED = 40
"""Characters of a line that may be one of a wrapped paragraph; code and lists of words are mostly shorter."""

_GOES_ON = re.compile(r"[ \t]*(?!\.\.|>>>|[-+*\u2022][ \t]|#|\||\d+[.)][ \t])\S")
_CITED = re.compile(r"\[(\d{1,2})\][:,]?\s*")
_SENTENCE = re.compile(r"\n+|(?<=[.!?])\s+(?=[^a-z])")
_WORD = re.compile(r"\w+")


def sentences(text: str) -> list[str]:
    """The lines and sentences of a passage, each on one line; a sentence that was wrapped is one."""
    return [" ".join(part.split()) for part in _SENTENCE.split(_unwrapped(text)) if part.strip()]


def _unwrapped(text: str) -> str:
    """``text`` with the lines of a wrapped paragraph joined.

    A line goes on in the next when it is long, does not end as a sentence or an introduction does, and the next is
    indented as it is and begins no list entry, table row, directive or prompt.
    """
    joined: list[str] = []
    for line in text.split("\n"):
        before = joined[-1].rstrip() if joined else ""
        last = before.rsplit("\0", 1)[-1]
        level = len(joined) == 1 or _indent(last) == _indent(line)
        if len(last) >= WRAPPED and not before.endswith((".", "!", "?", ":")) and level and _GOES_ON.match(line):
            joined[-1] = f"{before}\0{line}"
        else:
            joined.append(line)
    return "\n".join(joined).replace("\0", " ")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


Nearest = Callable[[str, Sequence[str]], int]
"""(question, sentences) -> the index of the sentence that is nearest in meaning."""


def corrected(answer: str, passages: Sequence[str], question: str, nearest: Nearest | None = None) -> str:
    """``answer`` with what follows its first ``[n]`` made the sentence of passage n that it is closest to.

    With ``nearest`` it is made the sentence that is nearest to the question, whatever the answer quotes.

    A quote that stands in the passage letter for letter is left alone, and so is an answer that cites nothing. Of
    sentences that share equally much (fewer than LEAST characters count as nothing), the one with most words of the
    question is taken; a sentence that shares neither is no quote, and the answer stays what it is.
    """
    mark = _CITED.search(answer)
    if mark is None or not 1 <= int(mark[1]) <= len(passages):
        return answer
    passage, quote = passages[int(mark[1]) - 1], answer[mark.end() :].strip()
    if nearest is not None:
        whole = [each for each in sentences(passage) if len(_WORD.findall(each)) >= LEAST_WORDS]
        return answer[: mark.end()] + whole[nearest(question, whole)] if whole else answer
    if quote in " ".join(passage.split()):
        return answer
    asked = {word.lower() for word in _WORD.findall(question)}

    def closeness(sentence: str) -> tuple[int, int]:
        shared = longest_shared(sentence, quote)[1]
        return shared if shared >= LEAST else 0, len(asked & {word.lower() for word in _WORD.findall(sentence)})

    best = max(sentences(passage), key=closeness, default="")
    return answer[: mark.end()] + best if best and any(closeness(best)) else answer


def exact(
    deltas: Iterator[Delta], passages: Sequence[str], question: str, nearest: Nearest | None = None
) -> Iterator[Delta]:
    """``deltas`` with each choice's text held back until it ends and then given ``corrected``, in one piece."""
    texts: dict[int, str] = {}
    for delta in deltas:
        if delta.logprobs:
            raise ApiError(400, "not available for an agent that quotes exactly", param="logprobs", code="unsupported")
        texts[delta.index] = texts.get(delta.index, "") + delta.text
        if delta.finish is not None:
            yield Delta(index=delta.index, text=corrected(texts.pop(delta.index), passages, question, nearest))
        rest = without_text(delta)
        if rest != Delta(index=delta.index):
            yield rest


def without_text(delta: Delta) -> Delta:
    """The same piece, its text given elsewhere."""
    return replace(delta, text="", logprobs=())


def longest_shared(text: str, other: str) -> tuple[int, int]:
    """(place in ``text``, length) of the longest run of characters that ``other`` holds too, without outer blanks.

    Binary search over the length, with a set of all runs of that length: O(n log n) for n characters.
    """
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if _shared(text, other, middle) >= 0:
            low = middle
        else:
            high = middle - 1
    place = _shared(text, other, low) if low else 0
    run = text[place : place + low]
    return place + len(run) - len(run.lstrip()), len(run.strip())


def _shared(text: str, other: str, length: int) -> int:
    runs = {other[start : start + length] for start in range(len(other) - length + 1)}
    return next((start for start in range(len(text) - length + 1) if text[start : start + length] in runs), -1)
