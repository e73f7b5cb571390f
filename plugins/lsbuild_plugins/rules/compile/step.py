"""The step that compiles a shield: reads its packs, tries each rule's examples, measures what it finds, writes one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import re2
from msgspec.structs import replace

from lsbuild.api import Json, SourceError, StepContext, StepError
from lsbuild_plugins.rules.compile import canonical, pack, quality, rules
from lsbuild_plugins.rules.serve import format as formats
from lsbuild_plugins.rules.serve.matcher import Matcher
from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Action, Where

_OURS = "lsbuild's messages"
PACKS = Path(__file__).parents[1] / "packs"
"""The packs that ship with lsbuild, each ``NAME.yaml``."""


def run(context: StepContext) -> Mapping[str, Json]:
    """Write the compiled rules of the option ``packs`` (names of shipped ones, and the sources) to ``out``."""
    packs = read_packs(context)
    wanted: Mapping[str, str] = context.options["actions"]
    off = [name for name, action in wanted.items() if action == "off"]
    actions = {name: cast("Action", action) for name, action in wanted.items() if action != "off"}
    compiled = rules.compile_packs(packs, actions, canonical.table(), off, context.options["countries"])
    if not compiled.rules:
        raise SourceError("no rule is left", where="actions", hint="Do not turn all categories off.")
    _require_automata(compiled)
    tried = try_examples(compiled, packs)
    measured = measure(compiled, packs, context)
    formats.write(context.out, compiled)
    window = Matcher([rule for rule in compiled.rules if "output" in rule.where]).window
    facts = {"rules": len(compiled.rules), "examples": tried, "held back": window + 1, "found": measured}
    long = sum(len(rule.literals) for rule in compiled.rules)
    return facts | ({"words by Aho-Corasick": long} if long else {})


def _require_automata(compiled: formats.Rules) -> None:
    """SourceError when RE2 has not the memory for all patterns of a place; what it then says is no text for people."""
    for where in get_args(Where):
        try:
            Matcher([rule for rule in compiled.rules if where in rule.where])
        except re2.error as error:
            raise SourceError(
                f"the patterns of all rules that look at {where} are too much for RE2 ({error})",
                where="packs",
                hint=f"Put words in lists of at least {pack.LONG}, which RE2 has no part in, or leave rules out.",
            ) from error


def read_packs(context: StepContext) -> list[pack.Pack]:
    """The packs in the order of the spec; SourceError when two have the same name."""
    found: list[pack.Pack] = []
    for name in context.options["packs"]:
        source = context.sources.get(name)
        files = [PACKS / f"{name}.yaml"] if source is None else [file.location for file in source.files]
        found += [pack.read(file, name) for file in files]
    names = [each.pack for each in found]
    for name in names:
        if names.count(name) > 1:
            raise SourceError(f"two packs are named '{name}'", where=name, hint="Rename one of them.")
    return found


def measure(compiled: formats.Rules, packs: Sequence[pack.Pack], context: StepContext) -> list[Json]:
    """What is found of the shipped messages, and of the user's; GateError when the gates of the options are not met.

    They are held against the user's messages where there are some.
    """
    family = quality.families(packs)
    sets = [(_OURS, quality.load(quality.SHIPPED, quality.SHIPPED.name))]
    for file in context.sources["labelled"].files if "labelled" in context.sources else ():
        own = quality.load(file.location, file.path)
        quality.require_known(own, {*family, *family.values()}, file.path)
        sets.append((file.path, own))
    counted = [(name, messages, quality.measure(compiled, messages, family)) for name, messages in sets]
    name, _, counts = counted[-1]
    quality.require(context.options["gates"], counts, name)
    return [quality.told(*each) for each in counted]


def try_examples(compiled: formats.Rules, packs: Sequence[pack.Pack]) -> int:
    """How many examples were tried; StepError for the first that is found and should not be, or is not and should.

    Each rule is tried alone, so that its examples say something about it.
    """
    by_id = {rule.id: rule for rule in compiled.rules}
    tried = 0
    for each in packs:
        for written in each.rules:
            rule = by_id.get(f"{each.pack}.{written.id}")
            if rule is None:
                continue
            alone = replace(compiled, rules=(replace(rule, action="warn"),))
            _try_one(Shield(alone), rule, written, each.pack)
            tried += len(written.matches) + len(written.passes)
    return tried


def _try_one(shield: Shield, rule: formats.Rule, written: pack.PackRule, name: str) -> None:
    for texts, wanted in ((written.matches, True), (written.passes, False)):
        for text in texts:
            findings = shield.check(text, rule.where[0], Context()).findings
            if bool(findings) is not wanted:
                raise StepError(
                    f"rule {written.id} {'does not find' if wanted else 'finds'} its example {text!r}",
                    where=f"pack {name}",
                    hint=f"Correct the rule, or move the example to {'passes' if wanted else 'matches'}.",
                )
