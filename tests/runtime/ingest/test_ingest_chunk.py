"""Passages fit the model, stand exactly where they say, and keep what belongs together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lsbuild_runtime.ingest.chunk import CHARS_PER_TOKEN, Chunker
from lsbuild_runtime.ingest.document import Lines
from lsbuild_runtime.ingest.parse import parse
from lsbuild_runtime.ports import Passage


def cut(model: Path, path: str, text: str, tokens: int = 64, overlap: int = 8) -> list[Passage]:
    return list(Chunker(model / "tokenizer.json", tokens, overlap).cut(parse(path, text.encode())))


def test_blocks_of_one_section_are_packed_and_sections_are_not_mixed(model: Path) -> None:
    text = "# A\n\nthe pump\n\nthe valve\n\n# B\n\nthe filter\n"
    assert [(p.heading, p.text) for p in cut(model, "a.md", text)] == [
        ("A", "the pump\n\nthe valve"),
        ("B", "the filter"),
    ]


def test_a_code_block_that_fits_is_never_cut(model: Path) -> None:
    code = "```\n" + "the pump\n" * 15 + "```"
    text = "# A\n\n" + "the water is in the pump. " * 5 + "\n\n" + code + "\n\nthe end is the end of the water\n"
    assert sum(code in passage.text for passage in cut(model, "a.md", text, tokens=80)) == 1


def test_headings_are_embedded_but_not_stored(model: Path) -> None:
    (passage,) = cut(model, "a.md", "# the pump\n\n## reset\n\nhold the button\n")
    assert passage.text == "hold the button"
    assert passage.embedded == "the pump > reset\nhold the button"


def test_a_long_heading_path_loses_its_outermost_titles_in_the_prefix_only(model: Path) -> None:
    (passage,) = cut(model, "a.md", "# abcdefghijklmnop\n\n## the pump\n\nhold\n")
    assert passage.heading == "abcdefghijklmnop > the pump"
    assert passage.prefix == "the pump"


def test_a_long_paragraph_is_cut_with_overlap_below_the_limit(model: Path) -> None:
    text = "Hold the button of the pump for seconds. " * 40
    passages = cut(model, "a.txt", text, tokens=64, overlap=24)
    assert len(passages) > 3
    assert all(after.start < before.end for before, after in pairwise(passages))
    without = cut(model, "a.txt", text, tokens=64, overlap=0)
    assert all(after.start >= before.end for before, after in pairwise(without))


def test_one_endless_unknown_word_is_cut_by_characters(model: Path) -> None:
    passages = cut(model, "a.md", "x" * 1_000_000, tokens=256, overlap=32)
    assert sum(len(passage.text) for passage in passages) == 1_000_000
    assert max(len(passage.text) for passage in passages) <= 256 * CHARS_PER_TOKEN


def test_a_long_line_of_words_is_cut_between_words(model: Path) -> None:
    text = "the pump valve " * 4_000
    passages = cut(model, "a.md", text, tokens=256, overlap=0)
    assert {word for passage in passages for word in passage.text.split()} == {"the", "pump", "valve"}
    assert sum(len(passage.text.split()) for passage in passages) == 12_000
    assert {(passage.line_start, passage.line_end) for passage in passages} == {(1, 1)}


@pytest.mark.parametrize("text", ["", " \n\t\n", "\ufeff", "---\na: 1\n---\n"])
def test_empty_documents_have_no_passages(model: Path, text: str) -> None:
    assert cut(model, "a.md", text) == []


def test_ids_depend_on_file_place_and_text_only(model: Path) -> None:
    text = "# A\n\nthe pump\n"
    (first,), (again,), (other,), (moved,) = (
        cut(model, "a.md", text),
        cut(model, "a.md", text, tokens=128),
        cut(model, "b.md", text),
        cut(model, "a.md", "\n" + text),
    )
    assert first.chunk_id == again.chunk_id
    assert len({first.chunk_id, other.chunk_id, moved.chunk_id}) == 3


words = st.lists(
    st.sampled_from(
        ["the", "pump", "x9", "é", "漢字", "\0", "a.b", "`c`", "\n", "\n\n", "\r\n", "# H\n", "- ", "```\n", "\u2028"]
    ),
    max_size=200,
)


@given(words, st.sampled_from(["a.md", "a.txt", "a.rst", "a.py", "a.csv"]), st.integers(16, 100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_every_passage_is_exactly_its_place_in_the_file(model: Path, parts: list[str], path: str, tokens: int) -> None:
    text = " ".join(parts)
    tokenizer: Tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    lines = Lines(text)
    for passage in cut(model, path, text, tokens, tokens // 4):
        assert text[passage.start : passage.end] == passage.text
        assert passage.text.strip()
        assert passage.line_start == lines.number(passage.start)
        assert passage.line_end == lines.number(passage.end - 1)
        assert len(tokenizer.encode(passage.embedded).ids) <= tokens
