"""A pack of rules as people write it: its types and how it is read; nothing is compiled here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lsbuild.api import SourceError
from lsbuild.spec.model import Section

LONG = 5000
"""Words of a list from which on Aho-Corasick finds them. Below, RE2 has them for nothing in its one pass; from here on it takes
twice the memory and time to begin, and between 5,000 and 10,000 it gives its automaton up (docs/safety.md has the table)."""
Action = Literal["block", "redact", "warn"]
Where = Literal["input", "output", "tool_args", "retrieved"]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Country = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
"""A code of ISO 3166-1 in small letters."""
Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
LlamaGuard = Annotated[str, Field(pattern=r"^S([1-9]|1[0-4])$")]
OpenAI = Literal[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
]


class PackCategory(Section):
    """A kind of harm, with what happens by default where it is found."""

    llama_guard: tuple[LlamaGuard, ...] = ()
    """Codes of Llama Guard's taxonomy that it is part of."""
    openai: tuple[OpenAI, ...] = ()
    """OpenAI's moderation categories that it is part of."""
    action: Action
    """What a match leads to."""
    where: Annotated[tuple[Where, ...], Field(min_length=1)]
    """Which texts are looked at."""
    message: str
    """What a user is told."""
    part_of: Id | None = None
    """The category that it is counted with where precision and recall are told; default: none but itself."""


class PackRule(Section):
    """One rule: a pattern, words, phrases, or words of which one is required."""

    id: Id
    """Its name, unique in the pack."""
    category: str
    """A key of ``categories``."""
    pattern: str | None = None
    """RE2 syntax with limits on each repetition, over the text in lower case."""
    words: Texts | None = None
    """Whole words and fixed phrases."""
    phrases: Texts | None = None
    """Words in a row: ``a|b`` is one of both, ``?`` at the end makes a word optional, ``*`` is any word."""
    require: Texts | None = None
    """A text without any of these words is found."""
    cased: bool = False
    """Whether the pattern tells capitals from small letters."""
    leet: bool | None = None
    """Whether digits that stand for letters are read as those. Default: for words and phrases."""
    rest: str | None = None
    """A class of characters: a match of ``pattern`` goes on through all of them."""
    context: Texts | None = None
    """Words of which one has to stand before what ``pattern`` matches: for numbers that look like any other."""
    validator: str | None = None
    """The check of what the pattern matched."""
    country: Country | None = None
    """The country whose rule it is; `countries` of a shield chooses among them."""
    label: str | None = None
    """What stands for a redacted match, in brackets. Default: the rule's id."""
    action: Action | None = None
    """Instead of the category's."""
    where: Annotated[tuple[Where, ...], Field(min_length=1)] | None = None
    """Instead of the category's."""
    message: str | None = None
    """Instead of the category's."""
    matches: Texts
    """Texts that the rule finds something in; tried at build."""
    passes: Texts
    """Texts that the rule finds nothing in; tried at build."""

    @property
    def listed(self) -> tuple[str, ...]:
        """The words of `words` or `require`."""
        return self.words or self.require or ()

    @property
    def long(self) -> bool:
        """Whether its words are so many that Aho-Corasick finds them, not RE2."""
        return len(self.listed) >= LONG

    @model_validator(mode="after")
    def _one_kind(self) -> PackRule:
        if sum(kind is not None for kind in (self.pattern, self.words, self.phrases, self.require)) != 1:
            raise ValueError("a rule has one of pattern, words, phrases and require")
        if self.pattern is None and (self.cased or self.rest or self.validator or self.context):
            raise ValueError("cased, rest, context and validator belong to a pattern")
        if self.rest and self.validator:
            raise ValueError("a rule has either rest or validator: what goes on cannot be checked")
        return self


class Pack(Section):
    """A file of rules."""

    pack: Id
    """Its name."""
    categories: Annotated[dict[Id, PackCategory], Field(min_length=1)]
    """Kinds of harm by name."""
    rules: Annotated[tuple[PackRule, ...], Field(min_length=1)]
    """The rules."""


def read(path: Path, where: str) -> Pack:
    """The pack in a file; SourceError says at which key it is wrong. ``where`` names the file to people."""
    try:
        loaded = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        pack = Pack.model_validate(loaded)
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"the rules are not YAML: {str(error)[:300]}", where=where) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"{place or 'the file'}: {first['msg']}", where=where, hint="Correct the pack.") from error
    known: set[str] = set()
    for rule in pack.rules:
        if rule.category not in pack.categories:
            raise SourceError(f"rule {rule.id}: there is no category '{rule.category}' in this pack", where=where)
        if rule.id in known:
            raise SourceError(f"rule {rule.id}: the pack has two rules of that id", where=where)
        known.add(rule.id)
    return pack
