"""PDF: paragraphs by page under the outline's headings; what is damaged or dangerous ends one process only."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsbuild_runtime.ingest.chunk import Chunker
from lsbuild_runtime.ingest.document import Document, IngestError
from lsbuild_runtime.ingest.parse import parse
from lsbuild_runtime.ingest.pdf import arranged
from lsbuild_runtime.ingest.pdf_pages import Bookmark, Pages
from pdf_files import bomb, content, document, pdf


def blocks(found: Document) -> list[tuple[int, str, str]]:
    """(page, heading path, text) of each block."""
    return [
        (section.page, " > ".join(section.heading), found.text[span.start : span.end])
        for section in found.sections
        for span in section.blocks
    ]


MANUAL = pdf(
    [
        ["Pump manual - page 1", "1 Install", "Set the pump onto a flat floor, away from heat and repla-", "ce the filter.",
         "Then call us."],
        ["Pump manual - page 2", "Rinse it twice (or more).", "1.1 Filter", "Press the button."],
        ["Pump manual - page 3", "2 Service", "Call us again."],
    ],
    [(0, "Install", 0), (1, "Filter", 1), (0, "Service", 2)],
    "The pump",
)  # fmt: skip


def test_paragraphs_by_page_under_the_outline() -> None:
    found = parse("docs/manual.pdf", MANUAL)
    assert found.attributes == {"title": "The pump"}
    assert blocks(found) == [
        (1, "Install", "Set the pump onto a flat floor, away from heat and replace the filter."),
        (1, "Install", "Then call us."),
        (2, "Install", "Rinse it twice (or more)."),
        (2, "Install > Filter", "Press the button."),
        (3, "Service", "Call us again."),
    ]


def test_a_citation_names_the_page_and_the_page_is_not_embedded(model: Path) -> None:
    passages = list(Chunker(model / "tokenizer.json", 64, 0).cut(parse("manual.pdf", MANUAL)))
    assert [(passage.heading, passage.prefix) for passage in passages] == [
        ("Install > page 1", "Install"),
        ("Install > page 2", "Install"),
        ("Install > Filter > page 2", "Install > Filter"),
        ("Service > page 3", "Service"),
    ]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pdf([["secret"]], encrypt=True), "encrypted"),
        (b"", "not a readable PDF"),
        (b"%PDF-1.7\njunk", "not a readable PDF"),
        (MANUAL[:300], "not a readable PDF"),
        (pdf([[], []]), "holds no text: its 2 pages are pictures"),
        (pdf([]), "holds no text: it has no pages|not a readable PDF"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, what: str) -> None:
    with pytest.raises(IngestError, match=what) as error:
        parse("docs/a.pdf", data)
    assert error.value.where == "docs/a.pdf"
    assert error.value.hint


def test_a_bomb_ends_its_own_process_only() -> None:
    """2 GB of operators in some kilobytes: refused, and this process has not grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IngestError, match="1024 MiB"):
        parse("bomb.pdf", bomb(2000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_a_page_of_operators_nested_deep() -> None:
    deep = b"q " * 100_000 + content(["still here"]) + b" Q" * 100_000
    assert blocks(parse("a.pdf", document([deep]))) == [(1, "", "still here")]


def test_numbers_that_go_on_over_pages_are_no_running_header() -> None:
    pages = [f"{number} {number * 7}.5\nTotal {number}" for number in range(6)]
    found = arranged("a.pdf", Pages(pages, [], ""))
    assert [text for _, _, text in blocks(found)] == [f"{number} {number * 7}.5" for number in range(6)]


def test_lines_that_count_the_pages_are_left_out_and_numbered_titles_stay() -> None:
    pages = [f"Chapter {1 + number // 4}: Pumps {number + 5}\nWords {'abcdefghijkl'[number]}." for number in range(12)]
    found = arranged("a.pdf", Pages([*pages, "Chapter 9\nThe end."], [], ""))
    assert [text for _, _, text in blocks(found)] == [
        *(f"Words {letter}." for letter in "abcdefghijkl"),
        "Chapter 9\nThe end.",
    ]
    chapters = [f"Chapter {number * number + 1}\nText {'abcd'[number]}." for number in range(4)]
    others = [f"{letter}." for letter in "efghijklmnopq"]
    found = arranged("a.pdf", Pages([*chapters, *others], [], ""))
    assert sum(text.startswith("Chapter") for _, _, text in blocks(found)) == 4


def test_two_pages_keep_their_equal_lines() -> None:
    found = arranged("a.pdf", Pages(["Notice\none", "Notice\ntwo"], [], ""))
    assert [text for _, _, text in blocks(found)] == ["Notice\none", "Notice\ntwo"]


def test_a_bookmark_whose_title_is_nowhere_opens_its_page() -> None:
    found = arranged("a.pdf", Pages(["one.", "two."], [Bookmark(0, "Elsewhere", 1)], ""))
    assert blocks(found) == [(1, "", "one."), (2, "Elsewhere", "two.")]


lines = st.text(st.sampled_from("ab. 1\n-\x02\ufffe\u00adé"), max_size=60)
marks = st.builds(Bookmark, st.integers(0, 3), st.text("ab1", min_size=1, max_size=3), st.integers(0, 4))


@settings(deadline=None)
@given(st.lists(lines, max_size=5), st.lists(marks, max_size=5))
def test_any_pages_give_ordered_spans_inside_the_text(pages: list[str], outline: list[Bookmark]) -> None:
    found = arranged("a.pdf", Pages(pages, outline, ""))
    end = 0
    for section in found.sections:
        assert 1 <= section.page <= len(pages)
        for span in section.blocks:
            assert end <= span.start < span.end <= len(found.text)
            end = span.end
