"""What a shield finds of labelled messages: precision and recall by category, and gates on them; it compiles nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from lsbuild import entries
from lsbuild.api import GateError, Json, SourceError
from lsbuild.suggest import did_you_mean
from lsbuild_plugins.rules.compile.pack import Pack
from lsbuild_plugins.rules.serve.format import Rules
from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Where

SHIPPED = Path(__file__).parents[1] / "labelled.jsonl"
"""Messages for the shipped packs, written apart from their rules; some rules were mended by them."""
_NAMED = 3
"""Messages that a gate which is missed names."""


class Labelled(Struct, frozen=True, forbid_unknown_fields=True):
    """A message and the categories that a person sees in it; none for a harmless one."""

    text: str
    categories: tuple[str, ...] = ()
    where: Where = "input"


class Counts(Struct, frozen=True):
    """Of one category: messages that have it, messages in which it is found, and those of both; some that are only one."""

    messages: int
    found: int
    right: int
    missed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def precision(self) -> float | None:
        """The share of what is found that is right; None when nothing is found."""
        return self.right / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """The share of what is there that is found; None when nothing is there."""
        return self.right / self.messages if self.messages else None


def load(path: Path, name: str) -> tuple[Labelled, ...]:
    """The messages of a file (.jsonl, .yaml); SourceError names the first faulty entry with its line."""
    found: dict[str, Labelled] = {}
    for where, value in entries.read(path, name, "message"):
        try:
            message = msgspec.convert(value, Labelled)
        except msgspec.ValidationError as error:
            hint = "An entry is {text: ..., categories: [pii], where: input}; leave categories out for a harmless text."
            raise SourceError(str(error), where=where, hint=hint) from error
        if message.text in found:
            raise SourceError(f"this message was there before: {message.text[:80]!r}", where=where)
        found[message.text] = message
    return tuple(found.values())


def families(packs: Iterable[Pack]) -> dict[str, str]:
    """Category -> the one that it is counted with."""
    return {name: each.part_of or name for pack in packs for name, each in pack.categories.items()}


def measure(rules: Rules, messages: Sequence[Labelled], family: Mapping[str, str]) -> dict[str, Counts]:
    """The counts of each family of the compiled categories, by name. Every rule looks at every message, whatever it does."""
    shield = Shield(replace(rules, rules=tuple(replace(rule, action="warn") for rule in rules.rules)))
    pairs = []
    for message in messages:
        findings = shield.check(message.text, message.where, Context()).findings
        found = {family[finding.category] for finding in findings}
        pairs.append((message.text, found, {family.get(name, name) for name in message.categories}))
    names = sorted({family[category.name] for category in rules.categories})
    return {name: _counts(name, pairs) for name in names}


def _counts(name: str, pairs: Sequence[tuple[str, set[str], set[str]]]) -> Counts:
    missed = tuple(text for text, found, there in pairs if name in there - found)
    wrong = tuple(text for text, found, there in pairs if name in found - there)
    found = sum(name in found for _, found, _ in pairs)
    return Counts(sum(name in there for *_, there in pairs), found, found - len(wrong), missed, wrong)


def told(of: str, messages: Sequence[Labelled], counts: Mapping[str, Counts]) -> dict[str, Json]:
    """One set for the report and the manifest: ``of`` names it; shares with four digits, None where there is none."""
    return {
        "of": of,
        "messages": len(messages),
        "categories": {
            name: {
                "messages": each.messages,
                "found": each.found,
                "right": each.right,
                "precision": _rounded(each.precision),
                "recall": _rounded(each.recall),
            }
            for name, each in counts.items()
        },
    }


def require_known(messages: Iterable[Labelled], names: Iterable[str], where: str) -> None:
    """SourceError for a label that no pack of the shield has: a misspelt one would count as missed for ever."""
    known = sorted(names)
    for message in messages:
        for name in message.categories:
            if name not in known:
                said = f"no pack of this shield has a category '{name}'.{did_you_mean(name, known)}"
                raise SourceError(f"{said} It labels {message.text[:80]!r}", where=where)


def require(gates: Mapping[str, float | Mapping[str, float]], counts: Mapping[str, Counts], where: str) -> None:
    """GateError with every miss. ``gates`` are by measure, ``precision`` and ``recall``, each one share or shares by category.

    One share is for every category that a message has; a share that cannot be taken counts as 0.
    """
    missed = []
    for measure, gate in gates.items():
        wanted = gate if isinstance(gate, Mapping) else {name: gate for name, each in counts.items() if each.messages}
        for name, least in wanted.items():
            if name not in counts:
                raise SourceError(
                    f"no category '{name}' is counted.{did_you_mean(name, counts)}",
                    where=f"config.min_{measure}",
                    hint=f"Counted are {', '.join(counts)}.",
                )
            share = counts[name].precision if measure == "precision" else counts[name].recall
            if (share or 0.0) < least:
                missed.append(_miss(name, measure, share or 0.0, least, counts[name]))
    if missed:
        raise GateError("\n".join(missed), where=where, hint="Mend the rules, correct the labels, or lower the gate.")


def _miss(name: str, measure: str, share: float, least: float, counts: Counts) -> str:
    of, texts = (counts.found, counts.wrong) if measure == "precision" else (counts.messages, counts.missed)
    what = "found" if measure == "precision" else "labelled"
    said = f"{name}: {measure} is {share:.3f} ({counts.right} of {of} {what}), the gate is {least:.3f}"
    named = [f"  {'wrong' if measure == 'precision' else 'missed'}  {text[:100]!r}" for text in texts[:_NAMED]]
    return "\n".join([said, *named])


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
