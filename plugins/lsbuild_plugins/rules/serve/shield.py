"""A shield of compiled rules as the Safety port; most texts cost it one pass of RE2."""

from __future__ import annotations

from lsbuild_plugins.rules.serve.format import Rules
from lsbuild_plugins.rules.serve.guard import RulesGuard
from lsbuild_plugins.rules.serve.literals import Literals
from lsbuild_plugins.rules.serve.matcher import Matcher
from lsbuild_plugins.rules.serve.view import View, canonical
from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Category, Finding, Verdict, Where


class Shield:
    """Implements shielding.Safety. The automaton of a place is made when a text of that place first comes."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._matchers: dict[Where, Matcher] = {}
        self._lists: dict[str, Literals] = {}

    def categories(self) -> tuple[Category, ...]:
        """See shielding.Safety."""
        return self._rules.categories

    def window(self, where: Where) -> int:
        """The most bytes of the view that a guard holds back."""
        return self._matcher(where).window + 1

    def check(self, text: str, where: Where, context: Context) -> Verdict:
        """See shielding.Safety; ApiError 408 past the deadline."""
        context.check()
        matcher = self._matcher(where)
        plain = canonical(text, self._rules.table).lower()
        if matcher.clean(plain):
            return Verdict((), text)
        guard = RulesGuard(matcher, View(self._rules.table), context)
        # One piece: everything is looked at together, by end().
        released = guard.whole(text)
        missing = [
            Finding(rule.id, rule.category, rule.action, 0, len(text), rule.message)
            for rule in (matcher.rules[number] for number in matcher.missing(plain))
        ]
        blocked = next((finding for finding in missing if finding.action == "block"), None)
        if blocked is not None:
            return Verdict((*missing, *guard.findings()), "", blocked)
        return Verdict((*missing, *guard.findings()), released, guard.blocked)

    def guard(self, where: Where, context: Context) -> RulesGuard:
        """See shielding.Safety. Rules that demand something of the whole text are not looked at."""
        return RulesGuard(self._matcher(where), View(self._rules.table), context)

    def _matcher(self, where: Where) -> Matcher:
        matcher = self._matchers.get(where)
        if matcher is None:
            rules = [rule for rule in self._rules.rules if where in rule.where]
            for rule in rules:
                if rule.literals and rule.id not in self._lists:
                    self._lists[rule.id] = Literals(rule.literals)
            matcher = self._matchers[where] = Matcher(rules, self._lists)
        return matcher
