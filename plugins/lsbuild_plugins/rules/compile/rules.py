"""From packs to compiled rules: patterns are checked and measured, words become patterns; it runs no example."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import re2

from lsbuild.api import SourceError
from lsbuild.suggest import did_you_mean
from lsbuild_plugins.rules.compile.pack import Pack, PackRule
from lsbuild_plugins.rules.compile.syntax import PatternError, bounds, character_class
from lsbuild_plugins.rules.serve.format import Rule, Rules
from lsbuild_plugins.rules.serve.validate import OWN, validator
from lsbuild_plugins.rules.serve.view import canonical
from lsbuild_runtime.safety import Action, Category

MOST_BYTES = 512
"""The longest match a rule may have: as much of a stream is held back."""
_BETWEEN = r"""[ \t\r\n.,;:!?'"*_~/-]{1,3}"""
"""What stands between two words of a phrase."""
_WIDE = re.compile(r"\\[DSW]|\[\^|^(?:\[[^]]*\]|\\.|[^\[.\\])*\.")
"""What may match another character than an ASCII one: ``\\W``, ``[^a]``, or a dot outside of a class."""
_ANY_WORD = "[a-z0-9']{1,20}"
_SIGN = r"[ \t\r\n.:#=/()-]{1,3}"
_TO_NUMBER = (
    rf"(?:{_SIGN}(?:number|numbers|num|no|nr|nummer|numero|n|id|code|is|was|ist|lautet|est|es|e|er|to)){{0,3}}{_SIGN}"
)
"""What may stand between a word of `context` and its number: ``SSN (number) is: 123``."""
_TO_NUMBER_BYTES = 3 * (3 + 7) + 3


def compile_packs(
    packs: Sequence[Pack],
    actions: Mapping[str, Action],
    table: Mapping[int, str],
    off: Collection[str] = (),
    countries: Collection[str] | None = None,
) -> Rules:
    """All rules of ``packs``, with ``actions`` by category instead of their own, without the categories in ``off``.

    Of the rules that belong to a country those of ``countries``; None for all. SourceError names the pack and the rule that
    is wrong.
    """
    _require_countries(packs, countries or ())
    names = [name for pack in packs for name in pack.categories]
    for name in (*actions, *off):
        if name not in names:
            raise SourceError(f"no pack has a category '{name}'.{did_you_mean(name, names)}", where="config.actions")
    categories: dict[str, Category] = {}
    rules: list[Rule] = []
    for pack in packs:
        for name, entry in pack.categories.items():
            known = categories.get(name, Category(name))
            codes = tuple(dict.fromkeys((*known.llama_guard, *entry.llama_guard)))
            elsewhere = tuple(dict.fromkeys((*known.openai, *entry.openai)))
            categories[name] = Category(name, codes, elsewhere)
        for written in pack.rules:
            if written.category in off or not _wanted(written, countries):
                continue
            try:
                rules.append(_rule(pack, written, actions, table))
            except PatternError as error:
                raise SourceError(f"rule {written.id}: {error}", where=f"pack {pack.pack}") from error
    kept = tuple(category for category in categories.values() if category.name not in off)
    return Rules(kept, tuple(rules), dict(table))


def _require_countries(packs: Sequence[Pack], countries: Collection[str]) -> None:
    known = sorted({rule.country for pack in packs for rule in pack.rules if rule.country is not None})
    for country in countries:
        if country not in known:
            raise SourceError(
                f"no rule of these packs is of the country '{country}'",
                where="config.countries",
                hint=f"There are rules of {', '.join(known)}." if known else "Add a pack with such rules: pii.",
            )


def _wanted(written: PackRule, countries: Collection[str] | None) -> bool:
    return written.country is None or countries is None or written.country in countries


def _rule(pack: Pack, written: PackRule, actions: Mapping[str, Action], table: Mapping[int, str]) -> Rule:
    category = pack.categories[written.category]
    where = written.where or category.where
    if written.require is not None and "output" in where:
        raise PatternError("'require' is known only at the end of a text; it cannot look at where: output")
    if written.validator is not None:
        _require_validator(written.validator)
    if written.rest is not None:
        character_class(written.rest)
    literals = tuple(sorted({_plain(text, table) for text in written.listed})) if written.long else ()
    pattern, length = ("", max(len(word.encode()) for word in literals)) if literals else _pattern(written, table)
    if length > MOST_BYTES:
        raise PatternError(f"its longest match has {length} bytes, at most {MOST_BYTES} may be held back; use rest")
    return Rule(
        id=f"{pack.pack}.{written.id}",
        category=written.category,
        action=actions.get(written.category) or written.action or category.action,
        where=where,
        pattern=pattern,
        length=length,
        message=written.message or category.message,
        label=written.label or written.id,
        cased=written.cased,
        leet=_leet(written),
        rest=written.rest or "",
        validator=written.validator or "",
        absent=written.require is not None,
        literals=literals,
    )


def _require_validator(name: str) -> None:
    try:
        validator(name)
    except LookupError as error:
        dotted = name.replace("-", ".")
        hint = (
            f"write '{dotted}'"
            if _is_validator(dotted)
            else f"there are {', '.join(OWN)}, and modules of stdnum: us.ssn"
        )
        raise PatternError(f"there is no validator '{name}'; {hint}") from error


def _is_validator(name: str) -> bool:
    try:
        return bool(validator(name))
    except LookupError:
        return False


def _leet(written: PackRule) -> bool:
    if written.leet is not None:
        return written.leet
    return written.words is not None or written.phrases is not None


def _pattern(written: PackRule, table: Mapping[int, str]) -> tuple[str, int]:
    if written.phrases is not None:
        pattern = "|".join(_phrase(_plain(text, table)) for text in written.phrases)
    elif written.pattern is not None:
        pattern = written.pattern
    else:
        words = [_plain(text, table) for text in written.listed]
        return "|".join(_word(word) for word in words), max(len(word.encode()) for word in words)
    found = bounds(pattern)
    try:
        re2.compile(pattern.encode(), _quiet())
    except re2.error as error:
        raise PatternError(f"RE2 does not take it: {error}") from error
    if written.validator is not None and _WIDE.search(pattern):
        raise PatternError("a pattern with a validator may match ASCII characters only")
    words = [_plain(text, table) for text in written.context or ()]
    before = f"(?:{'|'.join(dict.fromkeys(map(_word, words)))}){_TO_NUMBER}" if words else ""
    longest = max((len(word.encode()) for word in words), default=-_TO_NUMBER_BYTES) + _TO_NUMBER_BYTES
    # The one group is what a validator sees.
    return (f"{before}({pattern})" if written.validator or before else pattern), found.most + longest


def _plain(text: str, table: Mapping[int, str]) -> str:
    plain = canonical(text, table).lower().decode()
    if not plain.strip():
        raise PatternError(f"{text!r} has nothing that could be found")
    return plain


def _word(word: str) -> str:
    """A whole word; other alphabets than ASCII know no word boundary in RE2, so there it may be a part of one."""
    before = r"\b" if word[0].isascii() and word[0].isalnum() else ""
    after = r"\b" if word[-1].isascii() and word[-1].isalnum() else ""
    return f"{before}{re2.escape(word)}{after}"


def _phrase(text: str) -> str:
    parts: list[str] = []
    for number, word in enumerate(text.split()):
        optional = word.endswith("?")
        choices = "|".join(
            _ANY_WORD if choice == "*" else re2.escape(choice) for choice in word.removesuffix("?").split("|")
        )
        if number == 0 and optional:
            raise PatternError(f"the first word of {text!r} cannot be optional")
        between = _BETWEEN if number else ""
        parts.append(f"(?:{between}(?:{choices})){'?' if optional else ''}")
    return rf"\b{''.join(parts)}\b"


def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options
