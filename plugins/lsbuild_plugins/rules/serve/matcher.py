"""Where rules match in a view: one pass of RE2 over all of them, a second one only for those that matched.

RE2 (a finite automaton) takes time linear in the text whatever the pattern. That a rule matches at an offset depends on
the bytes up to its longest match and one byte on both sides, on nothing else: every match is found, also those that begin
inside another one, so it makes no difference where a stream is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import re2

from lsbuild_plugins.rules.serve import validate
from lsbuild_plugins.rules.serve.format import Rule
from lsbuild_plugins.rules.serve.view import LEET_SIGN, leet
from lsbuild_runtime.http import Context

_MEMORY = 64 << 20
"""The most that the states of one automaton may take; RE2 forgets states that do not fit, and goes on."""
Span = tuple[int, int, int]
"""Start, end and number of the rule."""


class Matcher:
    """The rules of one place, numbered as given. It may be used from several threads."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.window = max((rule.length for rule in rules if not rule.absent), default=0)
        """The most bytes of one match."""
        self._absent = frozenset(number for number, rule in enumerate(rules) if rule.absent)
        self._all = _set([*(prefilter(rule) for rule in rules), LEET_SIGN])
        self._leet_rules = [number for number, rule in enumerate(rules) if rule.leet]
        self._leet = _set([rules[number].pattern for number in self._leet_rules]) if self._leet_rules else None
        self._sign = re2.compile(LEET_SIGN.encode())
        self._patterns: dict[int, _Pattern] = {}

    def clean(self, plain: bytes) -> bool:
        """Whether no rule finds anything: the whole cost of most texts."""
        hits = frozenset(self._all.Match(plain) or ())
        if not self._absent <= hits:
            return False
        hits -= self._absent
        if hits - {len(self.rules)}:
            return False
        return not hits or self._leet is None or not self._leet.Match(leet(plain))

    def spans(self, exact: bytes, start: int, stop: int, context: Context) -> list[Span]:
        """The longest match of each rule from every offset in ``start`` to ``stop``, sorted by start and rule.

        ApiError 408 past the deadline.
        """
        plain = exact.lower()
        hits = frozenset(self._all.Match(plain) or ())
        found: set[Span] = set()
        for number in hits - self._absent - {len(self.rules)}:
            text = exact if self.rules[number].cased else plain
            for span in self._pattern(number).spans(text, start, stop):
                context.check()
                found.add(span)
        if self._leet is not None and len(self.rules) in hits:
            read = leet(plain)
            for index in self._leet.Match(read) or ():
                for span in self._pattern(self._leet_rules[index]).spans(read, start, stop):
                    context.check()
                    if self._disguised(plain[span[0] : span[1]]):
                        found.add(span)
        return sorted(found)

    def missing(self, plain: bytes) -> list[int]:
        """The rules that demand something which is not there."""
        return sorted(self._absent.difference(self._all.Match(plain) or ()))

    def rest(self, number: int, exact: bytes) -> int:
        """How many bytes at the beginning of ``exact`` still belong to a match of the rule that ended before it."""
        return self._pattern(number).rest(exact if self.rules[number].cased else exact.lower())

    def _disguised(self, plain: bytes) -> bool:
        """Whether signs stand beside letters and are the fewer: ``sh1t`` and ``n0th1ng``, but neither ``455`` nor ``a55``."""
        letters = sum(97 <= byte <= 122 for byte in plain)
        signs = sum(byte in b"0134578@$" for byte in plain)
        return letters >= signs > 0 and self._sign.search(plain) is not None

    def _pattern(self, number: int) -> _Pattern:
        pattern = self._patterns.get(number)
        if pattern is None:
            pattern = self._patterns[number] = _Pattern(number, self.rules[number])
        return pattern


class _Pattern:
    """One rule alone, for the places of its matches."""

    def __init__(self, number: int, rule: Rule) -> None:
        options = re2.Options()
        options.longest_match = True
        self._number = number
        self._regex = re2.compile(rule.pattern.encode(), options)
        self._rest = re2.compile(f"{rule.rest}*".encode(), options) if rule.rest else None
        self._check: Callable[[str], bool] | None = validate.validator(rule.validator) if rule.validator else None

    def spans(self, text: bytes, start: int, stop: int) -> Iterator[Span]:
        """One span for each offset from which it matches."""
        while (match := self._regex.search(text, start)) is not None and match.start() < stop:
            begin, end = match.span()
            if self._check is not None:
                # The group of a pattern that has a validator is ASCII only: offsets of the text are those of the bytes.
                number = match.start(1)
                length = validate.valid_length(self._check, text[number:end].decode("ascii").lower())
                end = number + length if length else begin
            if end > begin:
                yield begin, end, self._number
            start = begin + 1

    def rest(self, text: bytes) -> int:
        """How many bytes at the beginning of ``text`` are characters of ``rest``."""
        match = self._rest.match(text) if self._rest is not None else None
        return int(match.end()) if match is not None else 0


def prefilter(rule: Rule) -> str:
    """The pattern for the plain view, in which a pattern that knows cases finds all that it finds, and more."""
    return f"(?i:{rule.pattern})" if rule.cased else rule.pattern


def _set(patterns: Sequence[str]) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY
    patterns_set = re2.Set.SearchSet(options)
    for pattern in patterns:
        patterns_set.Add(pattern)
    patterns_set.Compile()
    return patterns_set
