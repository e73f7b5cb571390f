"""Where rules match in a view: one pass of RE2 over all of them, a second one only for those that matched.

Long lists of words are no part of that pass: each has its own (`literals`).

RE2 (a finite automaton) takes time linear in the text whatever the pattern. That a rule matches at an offset depends on
the bytes up to its longest match and one byte on both sides, on nothing else: every match is found, also those that begin
inside another one, so it makes no difference where a stream is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import re2

from lsbuild_plugins.rules.serve import validate
from lsbuild_plugins.rules.serve.format import Rule
from lsbuild_plugins.rules.serve.literals import Literals
from lsbuild_plugins.rules.serve.view import LEET_SIGN, leet
from lsbuild_runtime.http import Context

_MEMORY = 64 << 20
"""The most that the states of one automaton may take; RE2 forgets states that do not fit, and goes on."""
Span = tuple[int, int, int]
"""Start, end and number of the rule."""


class Matcher:
    """The rules of one place, numbered as given. It may be used from several threads.

    ``lists`` are those of the rules with literals, by their ids: places share them.
    """

    def __init__(self, rules: Sequence[Rule], lists: Mapping[str, Literals] | None = None) -> None:
        self.rules = tuple(rules)
        self.window = max((rule.length for rule in rules if not rule.absent), default=0)
        """The most bytes of one match."""
        self._absent = frozenset(number for number, rule in enumerate(rules) if rule.absent)
        self._lists = {
            number: lists[rule.id] if lists else Literals(rule.literals)
            for number, rule in enumerate(rules)
            if rule.literals
        }
        numbered = [(number, rule) for number, rule in enumerate(rules) if not rule.literals]
        self._all = _Set([*((number, prefilter(rule)) for number, rule in numbered), (len(rules), LEET_SIGN)])
        leet_rules = [(number, rule.pattern) for number, rule in numbered if rule.leet]
        self._leet = _Set(leet_rules) if leet_rules else None
        self._leet_lists = {number: words for number, words in self._lists.items() if rules[number].leet}
        self._sign = re2.compile(LEET_SIGN.encode())
        self._patterns: dict[int, _Pattern] = {}

    def clean(self, plain: bytes) -> bool:
        """Whether no rule finds anything: the whole cost of most texts."""
        hits = self._hits(plain)
        if not self._absent <= hits:
            return False
        hits -= self._absent
        if hits - {len(self.rules)}:
            return False
        return not hits or not self._disguises or not self._hidden(leet(plain))

    @property
    def _disguises(self) -> bool:
        return self._leet is not None or bool(self._leet_lists)

    def _hits(self, plain: bytes) -> frozenset[int]:
        """The rules that match somewhere; one more than there are where letters may be disguised."""
        named = (number for number, words in self._lists.items() if words.stands_in(plain))
        return frozenset((*self._all.hits(plain), *named))

    def _hidden(self, read: bytes) -> frozenset[int]:
        """The rules that match somewhere in the leet view."""
        patterns = self._leet.hits(read) if self._leet is not None else ()
        return frozenset((*patterns, *(number for number, words in self._leet_lists.items() if words.stands_in(read))))

    def spans(self, exact: bytes, start: int, stop: int, context: Context) -> list[Span]:
        """The longest match of each rule from every offset in ``start`` to ``stop``, sorted by start and rule.

        ApiError 408 past the deadline.
        """
        plain = exact.lower()
        hits = self._hits(plain)
        found: set[Span] = set()
        for number in hits - self._absent - {len(self.rules)}:
            text = exact if self.rules[number].cased else plain
            for span in self._found(number, text, start, stop):
                context.check()
                found.add(span)
        if self._disguises and len(self.rules) in hits:
            read = leet(plain)
            for number in self._hidden(read) - self._absent:
                for span in self._found(number, read, start, stop):
                    context.check()
                    if self._disguised(plain[span[0] : span[1]]):
                        found.add(span)
        return sorted(found)

    def _found(self, number: int, text: bytes, start: int, stop: int) -> Iterator[Span]:
        words = self._lists.get(number)
        if words is None:
            yield from self._pattern(number).spans(text, start, stop)
            return
        yield from ((begin, end, number) for begin, end in words.spans(text).items() if start <= begin < stop)

    def missing(self, plain: bytes) -> list[int]:
        """The rules that demand something which is not there."""
        return sorted(self._absent - self._hits(plain))

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
        options.max_mem = _MEMORY
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


class _Set:
    """Which of some numbered patterns match anywhere in a text, in one pass."""

    def __init__(self, patterns: Sequence[tuple[int, str]]) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY
        self._numbers = [number for number, _ in patterns]
        self._set = re2.Set.SearchSet(options)
        for _, pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def hits(self, text: bytes) -> Iterator[int]:
        """The numbers of those that match."""
        return (self._numbers[index] for index in self._set.Match(text) or ())
