"""Holds what a model writes to a grammar: llguidance says which tokens may follow; it samples nothing and knows no API.

llguidance (about 8 MB) is imported by the first request that needs it. What is slow then, its view of the vocabulary, is
made once per model: 0.2 s for 49,000 tokens. A compiled grammar is kept and copied for each answer.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from lsbuild_plugins.onnx.serve.sampler import Row
from lsbuild_plugins.onnx.serve.text import Vocabulary
from lsbuild_runtime.http import ApiError

if TYPE_CHECKING:
    from llguidance import LLMatcher

KEPT = 32
"""Compiled grammars kept for later requests."""
_LIMITS: dict[str, Any] = {"max_lexer_states": 20_000, "max_grammar_size": 100_000, "verbose_errors": False}
"""A lexer state takes 1 to 2 kB."""
_CUT = 300
_SAMPLE = '{"name": "value", "n": [1]}'
_HINTS = {
    "too many expressions": "a pattern or a length in it is too complex",
    "Current row has": "too many things may come next at one place (optional properties, alternatives)",
    "NoExtensionBias": "no value fits it, or none that this model's tokens can write",
    "Unable to determine": "a pattern in it is too complex to combine with the others",
    "oneOf constraints": "the branches of a 'oneOf' cannot be told apart; use 'anyOf'",
}
"""What a client can do about llguidance's errors, by a part of their text; others are clear as they are."""


class _Marks(Struct, frozen=True):
    """What a constraint has to know of the vocabulary besides llguidance's view of it.

    Where tokens ``join`` (Vocabulary.joins), llguidance knows the ``spaced`` tokens, which begin with a space, once more
    without it, behind all others: the copies count after a token that joins.
    """

    vocab: int
    eos: NDArray[np.intp]
    others: NDArray[np.intp]
    """Special tokens that do not end a text."""
    joining: frozenset[int] = frozenset()
    lone: NDArray[np.intp] = np.empty(0, np.intp)
    """Tokens that join and are nothing else."""
    spaced: NDArray[np.intp] = np.empty(0, np.intp)
    space: NDArray[np.intp] = np.empty(0, np.intp)
    """The token that is a space and nothing else, if there is one: after a token that joins it is nothing at all."""
    forces: bool = True
    """Whether the tokenizer cuts a text in the middle of another so that its bytes come back: then tokens can be forced."""

    def without_space(self, token: int) -> int:
        """The copy of a token that begins with a space; any other token itself."""
        place = int(np.searchsorted(self.spaced, token))
        return self.vocab + place if place < len(self.spaced) and self.spaced[place] == token else token


class Constraint:
    """One answer held to a grammar; ``where`` is the parameter that asked for it."""

    def __init__(self, matcher: LLMatcher, marks: _Marks, where: str) -> None:
        self._matcher = matcher
        self._marks = marks
        self._where = where
        self._joined = False

    def copy(self) -> Constraint:
        """The beginning of the grammar again, for another answer: only of a constraint that took no token yet."""
        return Constraint(self._matcher.deep_copy(), self._marks, self._where)

    @property
    def ended(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def mask(self, row: Row) -> None:
        """Give every token that may not come next no probability at all."""
        np.copyto(row, np.float32(-np.inf), where=self.blocked(len(row)))

    def blocked(self, vocab: int) -> NDArray[np.bool_]:
        """Which tokens may not come next, bool[V]; ApiError 400 when the grammar turned out to be too complex."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise too_complex(self._where, self._matcher.get_error())
        known: NDArray[np.bool_] = np.unpackbits(~bits, bitorder="little").view(np.bool_)
        blocked = known[:vocab]
        if self._marks.joining:
            without_space = known[vocab : vocab + len(self._marks.spaced)]
            if self._joined:
                nothing_spaced = bool(blocked[self._marks.spaced].all())
                blocked[self._marks.spaced] = without_space
                blocked[self._marks.space] = nothing_spaced
            else:
                blocked[self._marks.lone] = without_space.all()
        # Where a text may go on or a special token may follow, llguidance allows all special ones: these are asked one by
        # one. It is told one end of text; a model may have several, and they mean the same.
        others = self._marks.others
        for token in others[~blocked[others]].tolist():
            blocked[token] = not self._matcher.validate_tokens([token])
        blocked[self._marks.eos] = not self._matcher.is_accepting()
        if blocked.all():
            raise too_complex(self._where, "NoExtensionBias")
        return blocked

    def take(self, token: int) -> tuple[int, ...]:
        """Go on with ``token``; gives the tokens that have to follow it."""
        self._consume(self._known(token))
        if self.ended or not self._marks.forces:
            return ()
        forced = tuple(self._matcher.compute_ff_tokens())
        for each in forced:
            self._consume(each)
        return forced

    def _known(self, token: int) -> int | None:
        """The token as llguidance knows it here; None for one that only joins, or ends it."""
        marks, joined = self._marks, self._joined
        self._joined = token in marks.joining
        if (self._joined and token in marks.lone) or (joined and token in marks.space):
            return None
        return marks.without_space(token) if joined else token

    def _consume(self, token: int | None) -> None:
        if token is not None and not self._matcher.consume_token(token):
            raise too_complex(self._where, self._matcher.get_error())


class Grammars:
    """What one model needs to hold answers to grammars. Thread-safe; nothing is loaded before the first ``open``."""

    def __init__(self, vocabulary: Vocabulary, vocab: int, eos: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        self._vocab = vocab
        self._eos = tuple(eos)
        self._lock = threading.Lock()
        self._tokens: Any = None
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()

    def open(self, grammar: str, where: str) -> Constraint:
        """A new answer of ``grammar`` (Lark, as llguidance reads it); ApiError 400 when it cannot be compiled."""
        return Constraint(self._compiled(grammar, where).deep_copy(), self._marks, where)

    @cached_property
    def _marks(self) -> _Marks:
        return _marks(self._vocabulary, self._vocab, self._eos)

    def fault(self, grammar: str) -> str:
        """Why ``grammar`` cannot be compiled, or ""."""
        return reason(self._matcher(grammar).get_error())

    def _compiled(self, grammar: str, where: str) -> LLMatcher:
        with self._lock:
            if grammar in self._kept:
                self._kept.move_to_end(grammar)
                return self._kept[grammar]
        matcher = self._matcher(grammar)
        if not matcher.is_error():
            # The first mask shows what compiling does not: too many ways to begin.
            matcher.compute_bitmask()
        if matcher.is_error():
            raise too_complex(where, matcher.get_error())
        with self._lock:
            self._kept[grammar] = matcher
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return matcher

    def _matcher(self, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        return LLMatcher(self._tokenizer(), grammar, log_level=0, limits=LLParserLimits(**_LIMITS))

    def _tokenizer(self) -> Any:
        from llguidance import LLTokenizer

        with self._lock:
            if self._tokens is None:
                tokens = _Tokens(self._vocabulary, self._marks, self._eos[0])
                self._tokens = LLTokenizer(tokens, n_vocab=len(tokens.tokens))  # type: ignore[arg-type]
            return self._tokens


def _marks(vocabulary: Vocabulary, vocab: int, eos: Sequence[int]) -> _Marks:
    others = sorted(token for token in vocabulary.controls if token < vocab and token not in eos)
    joining = [token for token in range(vocab) if vocabulary.joins(token)] if vocabulary.joiner else []
    spaced = [token for token in range(vocab) if vocabulary.raw(token)[:1] == b" "] if joining else []
    return _Marks(
        vocab,
        np.array(eos, np.intp),
        np.array(others, np.intp),
        frozenset(joining),
        np.array([token for token in joining if not vocabulary.raw(token)], np.intp),
        np.array(spaced, np.intp),
        np.array([token for token in spaced if vocabulary.raw(token) == b" "], np.intp),
        bool(vocabulary.continued(_SAMPLE)),
    )


class _Tokens:
    """The vocabulary as llguidance takes one from outside: the bytes of every token, and how a text is cut into tokens."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, marks: _Marks, eos: int) -> None:
        self._vocabulary = vocabulary
        self._marks = marks
        self._ids: dict[bytes, int] = {}
        self._longest = 0
        self.eos_token_id = eos
        self.special_token_ids = sorted(vocabulary.controls)
        self.tokens = [b"" if n in vocabulary.controls else vocabulary.raw(n) for n in range(marks.vocab)]
        self.tokens += [self.tokens[n][1:] for n in marks.spaced]

    def __call__(self, text: bytes | str) -> list[int]:
        """Ids whose bytes are ``text``: as the tokenizer cuts it, or else the longest tokens first.

        llguidance takes the first of them for the only one that may come where the grammar leaves no choice.
        """
        wanted = text if isinstance(text, bytes) else text.encode()
        found = self._cut(wanted.decode("utf-8", "replace"))
        return found if b"".join(self.tokens[n] for n in found) == wanted else self._greedy(wanted)

    def _cut(self, text: str) -> list[int]:
        if not self._marks.joining:
            return list(self._vocabulary.continued(text))
        out, joined = [], False
        for token in self._vocabulary.encode(self._vocabulary.shield(text)):
            out.append(self._marks.without_space(token) if joined else token)
            joined = token in self._marks.joining
        return [n for n in out if self.tokens[n]]

    def _greedy(self, wanted: bytes) -> list[int]:
        if not self._ids:
            self._ids = {each: n for n, each in enumerate(self.tokens) if each}
            self._longest = max(map(len, self._ids))
        out, at = [], 0
        while at < len(wanted):
            size = next((n for n in range(self._longest, 0, -1) if wanted[at : at + n] in self._ids), 0)
            if not size:
                break
            out.append(self._ids[wanted[at : at + size]])
            at += size
        return out


def too_complex(where: str, said: str) -> ApiError:
    """A 400 with the engine's reason."""
    return ApiError(
        400, f"{where}: the schema cannot be enforced: {reason(said)}", param=where, code="unsupported_schema"
    )


def reason(said: str) -> str:
    """The engine's reason in plain words, without the state that it prints after it."""
    said = said.split("failed to compile JSON schema: ")[-1].strip()
    found = next((hint for part, hint in _HINTS.items() if part in said), "")
    if "regex parse error" in said:
        found = f"a pattern cannot be used: {said.rpartition('error: ')[2].partition(chr(10))[0]}"
    return found or re.split(r"\n|<state>|<backtrace>", said, maxsplit=1)[0][:_CUT]
