"""Packs become rules at build: what is refused and in which words, and that every example of the shipped packs holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_shields import compiled, shipped, table

from lsbuild.api import Given, Item, Source, SourceError, SourceFile, StepContext, StepError
from lsbuild.spec.model import Shield as ShieldSpec
from lsbuild_plugins.rules.compile import step
from lsbuild_plugins.rules.compile.pack import read
from lsbuild_plugins.rules.compile.syntax import Bounds, PatternError, bounds, character_class
from lsbuild_plugins.rules.plugin import PLUGIN, SHIPPED
from lsbuild_plugins.rules.serve.format import FILE_NAME
from lsbuild_plugins.rules.serve.format import read as read_rules
from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import Context

HEAD = "pack: ours\ncategories: {c: {action: redact, where: [input, output], message: m}}\n"
NOTHING = Given({})
OPTIONS: dict[str, Any] = {"packs": ["pii"], "actions": {}, "countries": None, "gates": {}}
GOOD = "{id: r, category: c, pattern: 'ab{1,3}', matches: [xabb], passes: [a]}"


def context(out: Path, packs: list[str], actions: dict[str, str] | None = None, **sources: Any) -> StepContext:
    out.mkdir()
    options = {**OPTIONS, "packs": packs, "actions": actions or {}}
    return StepContext(out, options, sources, {}, lambda *_: None)


def item(**config: Any) -> Item:
    return Item("shields", "guard", "inline::rules", ShieldSpec(config=config), Path())


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [
        ("abc", 3, 3),
        ("a|bcd", 1, 3),
        ("a{2,5}b?", 2, 6),
        (r"\bfoo\b", 3, 3),
        ("(?:ab|c){3}", 3, 6),
        ("[a-z0-9_]{1,4}", 1, 4),
        ("[^a]", 1, 4),
        (r"\d\W", 2, 5),
        ("[]a]b", 2, 2),
        ("[[:alpha:]x]", 1, 1),
        (r"[\]\\-]x", 2, 2),
        (r"[\S]", 1, 4),
        ("a.b", 3, 6),
        ("(a(b|cd))", 2, 3),
        ("a{2}?", 2, 2),
        (r"\.\+", 2, 2),
    ],
)
def test_the_bounds_of_a_pattern(pattern: str, least: int, most: int) -> None:
    assert bounds(pattern) == Bounds(least, most)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("a*", "without a limit"),
        ("a+b", "without a limit"),
        ("a{3,}", "without a limit"),
        ("(a{1,2})+", "without a limit"),
        ("^a", "anchor"),
        ("a$", "anchor"),
        (r"\Ba", r"'\\B'"),
        (r"\Aa", r"'\\A'"),
        (r"\pLa", r"'\\p'"),
        (r"(a)\1", r"'\\1'"),
        ("(?i)a", "flags"),
        ("(?=a)b", "flags"),
        ("(?P<n>a)", "flags"),
        ("a?", "empty"),
        ("", "empty"),
        ("(a", "not closed"),
        ("[a", "not closed"),
        ("a)", "closes nothing"),
        ("*a", "repeats nothing"),
        ("a{1,9}{2}", "repetition of a repetition"),
        ("a{900}", "at most 200"),
        ("a{3,2}", "at most 200"),
        ("é", "not ASCII"),
        ("a\\", "at the end"),
    ],
)
def test_what_a_pattern_may_not_have(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said):
        bounds(pattern)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\W", r"\d", r"\s", "-", r"\."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        st.tuples(inner, st.integers(0, 3), st.integers(0, 3)).map(
            lambda parts: f"(?:{parts[0]}){{{parts[1]},{parts[1] + parts[2]}}}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(PATTERNS, st.text(alphabet="abcé€𝒳 -.1", max_size=20))
def test_no_match_of_re2_is_outside_the_bounds(pattern: str, text: str) -> None:
    import re2

    try:
        found = bounds(pattern)
    except PatternError:
        return
    options = re2.Options()
    options.longest_match = True
    for match in re2.compile(pattern.encode(), options).finditer(text.encode()):
        assert found.least <= match.end() - match.start() <= found.most


@pytest.mark.parametrize("text", ["a", "[^a]", "[a]b", "[a]{2}", r"[\W]", "(?:a)", "[é]", "["])
def test_what_goes_on_is_one_class(text: str) -> None:
    with pytest.raises(PatternError):
        character_class(text)
    character_class("[a-z0-9+/=\\n_-]")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("[]", "rules"),
        (f"[{GOOD}, {GOOD}]", "two rules of that id"),
        ("[{id: r, category: d, pattern: a, matches: [a], passes: [b]}]", "no category 'd'"),
        ("[{id: r, category: c, matches: [a], passes: [b]}]", "one of pattern, words"),
        ("[{id: r, category: c, pattern: a, words: [a], matches: [a], passes: [b]}]", "one of pattern, words"),
        ("[{id: r, category: c, words: [a], rest: '[a]', matches: [a], passes: [b]}]", "belong to a pattern"),
        ("[{id: r, category: c, pattern: a, matches: [a]}]", "passes"),
        ("[{id: r, category: c, pattern: 'a+', matches: [a], passes: [b]}]", "rule r: a repetition without a limit"),
        ("[{id: r, category: c, pattern: '[z-a]', matches: [a], passes: [b]}]", "RE2 does not take it"),
        ("[{id: r, category: c, pattern: '(?:[a-z]{100}){6}', matches: [a], passes: [b]}]", "600 bytes"),
        ("[{id: r, category: c, pattern: a, validator: x, matches: [a], passes: [b]}]", "no validator 'x'"),
        ("[{id: r, category: c, pattern: a, validator: us-ssn, matches: [a], passes: [b]}]", "write 'us.ssn'"),
        ("[{id: r, category: c, pattern: a, validator: ../x, matches: [a], passes: [b]}]", "no validator '../x'"),
        ("[{id: r, category: c, pattern: a, country: usa, matches: [a], passes: [b]}]", "country"),
        ("[{id: r, category: c, words: [a], context: [b], matches: [a], passes: [b]}]", "belong to a pattern"),
        ("[{id: r, category: c, pattern: 'a.', validator: luhn, matches: [a], passes: [b]}]", "ASCII characters only"),
        ("[{id: r, category: c, pattern: a, rest: 'b', matches: [a], passes: [b]}]", "one class"),
        ("[{id: r, category: c, pattern: a, rest: '[b]', validator: luhn, matches: [a], passes: [b]}]", "either rest"),
        ("[{id: r, category: c, require: [a], matches: [b], passes: [a]}]", "where: output"),
        ('[{id: r, category: c, words: ["\\u200b"], matches: [a], passes: [b]}]', "nothing that could be found"),
        ("[{id: r, category: c, phrases: ['a? b'], matches: [b], passes: [a]}]", "cannot be optional"),
        ("[{id: r, category: c, pattern: a, colour: red, matches: [a], passes: [b]}]", "colour"),
        ("{", "not YAML"),
    ],
)
def test_a_faulty_pack_is_refused_with_its_name(rules: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        compiled(f"{HEAD}rules: {rules}\n", tmp_path)
    assert said in str(caught.value)
    assert "pack" in caught.value.where


@pytest.mark.parametrize(
    ("matches", "passes", "said"), [("zzz", "a", "does not find"), ("ab", "abb", "finds its example 'abb'")]
)
def test_an_example_that_fails_fails_the_build(matches: str, passes: str, said: str, tmp_path: Path) -> None:
    rule = f"{{id: r, category: c, pattern: 'ab{{1,3}}', matches: [{matches}], passes: [{passes}]}}"
    rules = compiled(f"{HEAD}rules: [{rule}]\n", tmp_path)
    with pytest.raises(StepError) as caught:
        step.try_examples(rules, [read(tmp_path / "pack.yaml", "pack.yaml")])
    assert (caught.value.where, said in str(caught.value), "rule r" in str(caught.value)) == ("pack ours", True, True)


def test_all_shipped_packs_compile_and_hold_their_examples(tmp_path: Path) -> None:
    facts = step.run(context(tmp_path / "out", list(SHIPPED)))
    assert facts is not None
    rules = read_rules(tmp_path / "out")
    assert facts["rules"] == len(rules.rules) >= 50
    assert facts["examples"] >= 250
    again = step.run(context(tmp_path / "again", list(SHIPPED)))
    assert again == facts
    assert (tmp_path / "again" / FILE_NAME).read_bytes() == (tmp_path / "out" / FILE_NAME).read_bytes()


def test_there_is_a_pack_for_each_name_and_no_other() -> None:
    assert sorted(path.stem for path in step.PACKS.iterdir()) == sorted(SHIPPED)
    assert [pack.pack for pack in shipped(*SHIPPED)] == list(SHIPPED)


def test_actions_replace_those_of_categories_and_off_leaves_one_out(tmp_path: Path) -> None:
    step.run(context(tmp_path / "out", ["pii", "profanity"], {"pii": "block", "profanity": "off"}))
    rules = read_rules(tmp_path / "out")
    assert {rule.action for rule in rules.rules} == {"block"}
    assert [category.name for category in rules.categories] == ["pii"]


def test_an_action_for_no_category_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no pack has a category 'pi'.*pii"):
        step.run(context(tmp_path / "out", ["pii"], {"pi": "block"}))
    with pytest.raises(SourceError, match="no rule is left"):
        step.run(context(tmp_path / "more", ["pii"], {"pii": "off"}))


def test_the_off_topic_shield_lets_through_what_is_about_the_subject(tmp_path: Path) -> None:
    step.run(context(tmp_path / "out", ["off-topic"]))
    shield = Shield(read_rules(tmp_path / "out"))
    assert shield.check("How do I repair the PUMP?", "input", Context()).blocked is None
    refused = shield.check("Who won the election?", "input", Context())
    assert refused.blocked is not None
    assert (refused.text, refused.blocked.rule) == ("", "off-topic.pump")
    assert shield.check("Who won the election?", "output", Context()).findings == ()


@pytest.mark.parametrize(
    ("config", "path", "said"),
    [
        ({}, ("config", "packs"), "required"),
        ({"packs": []}, ("config", "packs"), "at least 1"),
        ({"packs": ["pi"]}, ("config", "packs", 0), "neither a .yaml file nor one of pii"),
        ({"packs": ["pii", "pii"]}, ("config", "packs", 1), "named twice"),
        ({"packs": ["pii"], "actions": {"pii": "shout"}}, ("config", "actions", "pii"), "block"),
        ({"packs": ["pii"], "mode": 1}, ("config", "mode"), "not permitted"),
        ({"packs": ["pii"], "countries": ["USA"]}, ("config", "countries", 0), "pattern"),
        ({"packs": ["pii"], "labelled": "ours.csv"}, ("config", "labelled"), "neither a .jsonl nor a .yaml file"),
    ],
)
def test_faults_of_the_spec(config: dict[str, Any], path: tuple[str | int, ...], said: str) -> None:
    (problem,) = PLUGIN.check(item(**config))
    assert problem.path == path
    assert said in problem.message


def test_the_wheels_and_the_code_travel_with_the_shield() -> None:
    asked = item(packs=["pii", "rules/ours.yaml"])
    assert list(PLUGIN.check(asked)) == []
    assert PLUGIN.sources(asked) == {"rules/ours.yaml": "rules/ours.yaml"}
    made = PLUGIN.compile(item(packs=["secrets"]), Given({}))
    assert made.code == ("lsbuild_plugins.rules.serve",)
    assert [wheel.partition(">")[0] for wheel in made.wheels] == ["google-re2"]
    assert [service.api for service in made.services] == ["safety"]


def source(path: Path, text: str) -> Source:
    path.write_text(text, encoding="utf-8")
    return Source(path.name, (SourceFile(path.name, path, "0" * 64, len(text)),))


def test_of_stdnum_there_ships_what_the_rules_name(tmp_path: Path) -> None:
    def only(given: Given = NOTHING, **config: Any) -> tuple[str, ...]:
        made = PLUGIN.compile(item(**config), given)
        assert ("python-stdnum>=2.2" in made.wheels) == bool(made.only)
        return made.only.get("python-stdnum", ())

    assert only(packs=["pii"], countries=["nl", "us"]) == (
        *("stdnum.nl.bsn", "stdnum.nl.btw"),
        *("stdnum.us.ein", "stdnum.us.itin", "stdnum.us.ssn"),
    )
    assert len(only(packs=["pii"])) > 80
    assert only(packs=["pii"], countries=[]) == ()
    ours = {"ours.yaml": source(tmp_path / "ours.yaml", "rules: [{id: a, validator: isbn}, {validator: luhn}]")}
    assert only(Given(ours), packs=["ours.yaml"], countries=["us"]) == ("stdnum.isbn",)


def test_a_module_that_puts_names_together_ships_all_of_stdnum(tmp_path: Path) -> None:
    ours = {"ours.yaml": source(tmp_path / "ours.yaml", "rules: [{id: a, validator: eu.vat}]")}
    made = PLUGIN.compile(item(packs=["ours.yaml"]), Given(ours))
    assert made.only == {}
    assert "python-stdnum>=2.2" in made.wheels


def test_a_country_without_rules_is_refused(tmp_path: Path) -> None:
    asked = replace(context(tmp_path / "out", ["pii"]), options={**OPTIONS, "countries": ["xx"]})
    with pytest.raises(SourceError, match="no rule of these packs is of the country 'xx'") as caught:
        step.run(asked)
    assert "us, uy" in str(caught.value)


def test_the_table_leaves_scripts_without_look_alikes_alone() -> None:
    assert not {ord(character) for character in "漢字한글"} & table().keys()
    assert {"é": "e", "ﬁ": "fi", "Ａ": "A", "і": "i", "\u200b": "", "\u0301": "", "ß": "ss", "\u00a0": " "}.items() <= {
        chr(code): text for code, text in table().items()
    }.items()
