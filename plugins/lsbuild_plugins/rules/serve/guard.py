"""The guard of a stream: what it holds back is never longer than the longest match, and it looks at nothing twice over.

A text that is there at once goes the same way, so that both have the same result.
"""

from __future__ import annotations

from msgspec.structs import replace

from lsbuild_plugins.rules.serve.matcher import Matcher
from lsbuild_plugins.rules.serve.view import View
from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Finding

_STRIDE = 4096
"""Bytes that are looked at in one go for the rest of a match."""


class RulesGuard:
    """Implements shielding.Guard.

    ``_looked`` is the offset in the view up to which every start of a match is known; a match needs ``window`` bytes and
    one more to be known. ``_sent`` is the character of the text up to which all was released or replaced, ``_held`` the
    text from character ``_base`` on.
    """

    def __init__(self, matcher: Matcher, view: View, context: Context) -> None:
        self.blocked: Finding | None = None
        self._matcher = matcher
        self._view = view
        self._context = context
        self._looked = 0
        self._held = ""
        self._base = 0
        self._sent = 0
        self._covered: dict[int, int] = {}
        self._found: dict[int, list[Finding]] = {}
        self._open: set[int] = set()

    def feed(self, text: str) -> str:
        """See shielding.Guard; ApiError 408 past the deadline."""
        if self.blocked is not None or not text:
            return ""
        self._add(text)
        return self._release(self._view.end - self._matcher.window - 1)

    def end(self) -> str:
        """See shielding.Guard."""
        return "" if self.blocked is not None else self._release(self._view.end)

    def whole(self, text: str) -> str:
        """``feed`` and ``end`` at once, for a text that is there."""
        self._add(text)
        return self.end()

    def held(self) -> str:
        """See shielding.Guard."""
        return self._held[self._sent - self._base :]

    def findings(self) -> tuple[Finding, ...]:
        """See shielding.Guard."""
        found = [finding for findings in self._found.values() for finding in findings]
        return tuple(sorted(found, key=lambda finding: (finding.start, finding.end, finding.rule)))

    def _add(self, text: str) -> None:
        before = self._view.end
        self._held += text
        self._view.add(text)
        for number in list(self._open):
            self._follow(number, before)

    def _release(self, stop: int) -> str:
        """Look for matches that begin before ``stop``, and let go what stands before it and is in none."""
        released: list[str] = []
        if stop > self._looked:
            # A match may depend on the one byte before it.
            first = max(self._looked - 1, 0)
            self._view.forget(first)
            exact = self._view.part(first, self._view.end)
            for start, end, number in self._matcher.spans(exact, self._looked - first, stop - first, self._context):
                self._note(start + first, end + first, number, released)
                if self.blocked is not None:
                    return "".join(released)
            self._looked = stop
        self._let_go(self._view.place(self._looked), released)
        self._held = self._held[self._sent - self._base :]
        self._base = self._sent
        return "".join(released)

    def _note(self, start: int, end: int, number: int, released: list[str]) -> None:
        """Take up one match; matches come in the order of their starts."""
        covered = self._covered.get(number, -1)
        if end <= covered:
            return
        rule = self._matcher.rules[number]
        place = self._view.place(start)
        if rule.action != "warn":
            self._let_go(place, released)
        if rule.action == "redact" and place >= self._sent:
            released.append(f"[{rule.label}]")
        if start >= covered:
            finding = Finding(rule.id, rule.category, rule.action, place, place, rule.message)
            self._found.setdefault(number, []).append(finding)
        self._lengthen(number, end)
        if rule.action == "block":
            self.blocked = self._found[number][-1]
            self._held = ""
        else:
            self._follow(number, end)

    def _follow(self, number: int, offset: int) -> None:
        """Lengthen a match by the rule's ``rest``; it stays open where the view ends before that does."""
        if not self._matcher.rules[number].rest:
            return
        reached, more = offset, True
        while more:
            part = self._view.part(reached, reached + _STRIDE)
            size = self._matcher.rest(number, part)
            reached += size
            more = size == _STRIDE
        self._lengthen(number, reached)
        if reached == self._view.end:
            self._open.add(number)
        else:
            self._open.discard(number)

    def _lengthen(self, number: int, end: int) -> None:
        self._covered[number] = end
        place = self._view.until(end)
        findings = self._found[number]
        findings[-1] = replace(findings[-1], end=place)
        if self._matcher.rules[number].action == "redact":  # what it covers is never sent
            self._sent = max(self._sent, place)

    def _let_go(self, place: int, released: list[str]) -> None:
        """Release the text up to ``place``."""
        if place > self._sent:
            released.append(self._held[self._sent - self._base : place - self._base])
            self._sent = place
