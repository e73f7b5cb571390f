"""Long lists of words: Aho-Corasick finds what RE2 finds, in whole texts and in streams, and the build chooses between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules_shields import shipped, streamed, table

from lsbuild.api import Given, Item, Source, SourceError, SourceFile, StepContext
from lsbuild.spec.model import Shield as ShieldSpec
from lsbuild_plugins.rules.compile import pack, rules, step
from lsbuild_plugins.rules.plugin import PLUGIN, SHIPPED
from lsbuild_plugins.rules.serve.format import read
from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import Context
from lsbuild_runtime.safety import Verdict

LETTERS = "ab1_ -éя."
WORDS = st.lists(
    st.text(LETTERS, min_size=1, max_size=5).filter(lambda text: bool(text.strip(" ."))),
    min_size=1,
    max_size=8,
    unique=True,
)


def of(action: str, words: Sequence[str], kind: str = "words") -> pack.Pack:
    where = ["input", "output"] if kind == "words" else ["input"]
    category = {"action": action, "where": where, "message": "m"}
    rule = {"id": "r", "category": "c", kind: list(words), "matches": ["x"], "passes": ["y"]}
    return pack.Pack.model_validate({"pack": "p", "categories": {"c": category}, "rules": [rule]})


def both(written: pack.Pack, monkeypatch: pytest.MonkeyPatch) -> tuple[Shield, Shield]:
    """The same words as a pattern of RE2 and as literals."""
    made = []
    for long in (10_000, 1):
        monkeypatch.setattr(pack, "LONG", long)
        compiled = rules.compile_packs([written], {}, table())
        assert bool(compiled.rules[0].literals) == (long == 1)
        made.append(Shield(compiled))
    return made[0], made[1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["warn", "redact", "block"]),
    WORDS,
    st.lists(st.text(LETTERS + "ABс3@", max_size=9), max_size=5),
    st.data(),
)
def test_both_find_the_same(
    monkeypatch: pytest.MonkeyPatch, action: str, words: list[str], pieces: list[str], data: st.DataObject
) -> None:
    pattern, literals = both(of(action, words), monkeypatch)
    parts = [data.draw(st.sampled_from([piece, *words])) for piece in pieces]
    text = "".join(parts)
    wanted: Verdict = pattern.check(text, "input", Context())
    assert literals.check(text, "input", Context()) == wanted
    assert literals.window("output") == pattern.window("output")
    assert streamed(literals, parts, "output") == streamed(pattern, parts, "output")
    assert streamed(literals, list(text), "output") == streamed(pattern, list(text), "output")


def test_the_longest_word_and_whole_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for shield in both(of("redact", ["heron", "blue heron", "heron bay", "c++", "öl", "насос"]), monkeypatch):
        assert (
            shield.check("A Blue HERON bay, herons, C++ and насосы", "input", Context()).text
            == "A [r], herons, [r] and [r]ы"
        )
        assert shield.check("bl\u200bue h3r0n", "input", Context()).text == "[r]"


@pytest.mark.parametrize("text", ["the pump", "pumpe", "", "p\u200bump", "0il"])
def test_required_words_as_well(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, literals = both(of("block", ["pump", "oil"], "require"), monkeypatch)
    assert literals.check(text, "input", Context()) == pattern.check(text, "input", Context())


def deny(path: Path, count: int) -> Source:
    lines = "".join(f"      - word{number}x\n" for number in range(count))
    head = "pack: deny\ncategories: {c: {action: block, where: [input, output], message: m}}\nrules:\n"
    rule = f"  - id: r\n    category: c\n    matches: [a word7x]\n    passes: [word]\n    words:\n{lines}"
    path.write_text(head + rule, encoding="utf-8")
    return Source(path.name, (SourceFile(path.name, path, "0" * 64, path.stat().st_size),))


@pytest.mark.parametrize("count", [299, 300])
def test_the_build_chooses_by_the_length_of_a_list(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "LONG", 300)
    source = deny(tmp_path / "deny.yaml", count)
    item = Item("shields", "guard", "inline::rules", ShieldSpec(config={"packs": ["secrets", "deny.yaml"]}), Path())
    made = PLUGIN.compile(item, Given({"deny.yaml": source}))
    long = count >= pack.LONG
    assert any(wheel.startswith("ahocorasick-rs") for wheel in made.wheels) == long
    (tmp_path / "out").mkdir()
    facts: Any = step.run(
        StepContext(tmp_path / "out", made.steps[0].options, {"deny.yaml": source}, {}, lambda *_: None)
    )
    assert facts.get("words by Aho-Corasick") == (count if long else None)
    shield = Shield(read(tmp_path / "out"))
    assert shield.check(f"see word{count - 1}X.", "input", Context()).blocked is not None
    assert shield.check(f"see word{count}x.", "input", Context()).blocked is None


def test_no_shipped_pack_has_a_long_list() -> None:
    assert not any(rule.long for each in shipped(*SHIPPED) for rule in each.rules)


def test_too_much_for_re2_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from lsbuild_plugins.rules.serve import matcher

    monkeypatch.setattr(matcher, "_MEMORY", 1 << 12)
    with pytest.raises(SourceError, match="too much for RE2"):
        step._require_automata(rules.compile_packs(shipped("pii"), {}, table()))
