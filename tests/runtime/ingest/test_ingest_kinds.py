"""Tables, records and Python: small golden documents, and what is unkind to each reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsbuild_runtime.ingest.chunk import Chunker
from lsbuild_runtime.ingest.document import Document, IngestError, Lines
from lsbuild_runtime.ingest.parse import kind, parse


def blocks(document: Document) -> list[tuple[str, str]]:
    """(heading path, text) of each block."""
    return [
        (" > ".join(section.heading), document.text[span.start : span.end])
        for section in document.sections
        for span in section.blocks
    ]


@pytest.mark.parametrize(
    ("path", "found"),
    [("a.rst.txt", "rst"), ("b.md.txt", "markdown"), ("v1.2.MD", "markdown"), ("notes.v2.txt", "text"), ("LICENSE", "text"),
     ("a.tar.csv", "table"), ("x.ndjson", "records"), ("m.pyi", "python"), ("m.rs", "code"), ("a.PDF", "pdf")],
)  # fmt: skip
def test_the_longest_known_suffix_decides(path: str, found: str) -> None:
    assert kind(f"docs.d/{path}") == found


TABLE = 'name,price,note\r\nPump,9.5,"hold, then\r\n""reset"""\r\n\r\nValve,3,\r\n'


def test_rows_of_a_table_stand_under_its_columns() -> None:
    document = parse("a.csv", TABLE.encode())
    assert document.text == TABLE
    assert blocks(document) == [
        ("name, price, note", 'Pump,9.5,"hold, then\r\n""reset"""'),
        ("name, price, note", "Valve,3,"),
    ]
    lines = Lines(document.text)
    (first, second) = (section.blocks[0] for section in document.sections)
    assert (lines.number(first.start), lines.number(first.end - 1), lines.number(second.start)) == (2, 3, 5)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.csv", "a;b;c,d\nx;y;z\n", [("a, b, c,d", "x;y;z")]),
        ("a.tsv", "a\tb\n1\t2\n", [("a, b", "1\t2")]),
        ("a.csv", "a|b\nx|y", [("a, b", "x|y")]),
        ("a.csv", "1,2\n3,4\n", [("", "1,2"), ("", "3,4")]),
        ("a.csv", "a,a\n3,4\n", [("", "a,a"), ("", "3,4")]),
        ("a.csv", "\ufeffa,b\nx,y\n", [("a, b", "x,y")]),
        ("a.csv", "only,names\n", [("only, names", "only,names")]),
        ("a.csv", 'a,b\n5" pipe,"open\n', [("a, b", '5" pipe,"open')]),
        ("a.csv", "", []),
        ("a.csv", "\n\n", []),
    ],
)
def test_tables_as_people_write_them(path: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert blocks(parse(path, text.encode())) == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.text('ab", \n\ré', max_size=6), min_size=2, max_size=4), min_size=1, max_size=8))
def test_every_row_that_says_something_is_in_its_place(rows: list[list[str]]) -> None:
    text = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    document = parse("a.csv", text.encode())
    found = [document.text[span.start : span.end] for section in document.sections for span in section.blocks]
    assert all(len(section.blocks) == 1 for section in document.sections)
    assert "\n".join(found) in (text.rstrip("\n"), text.partition("\n")[2].rstrip("\n")) or len(found) in (
        len(rows),
        len(rows) - 1,
    )


RECORDS = """\
{"title": "The pump", "text": "Hold the button.\\n\\u00c4h, twice.", "id": 7, "tags": ["a", 2], "deep": {"x": 1}, "none": null}

{"question": "Is it wet?", "answer": "Yes.", "sold": true}
{"city": "Bonn", "people": 330000}
"just a text"
[1, 2]
{"messages": [{"role": "user"}]}
"""


def test_records_have_a_text_a_title_and_other_fields(model: Path) -> None:
    document = parse("a.jsonl", RECORDS.encode())
    assert blocks(document) == [
        ("The pump", "Hold the button.\nÄh, twice."),
        ("The pump", "id: 7\ntags: a, 2"),
        ("Is it wet?", "Yes."),
        ("Is it wet?", "sold: true"),
        ("", "city: Bonn\npeople: 330000"),
        ("", "just a text"),
        ("", "[1, 2]"),
        ("", '{"messages": [{"role": "user"}]}'),
    ]
    passages = list(Chunker(model / "tokenizer.json", 64, 0).cut(document))
    assert [(p.line_start, p.line_end) for p in passages] == [(line, line) for line in (1, 3, 4, 5, 6, 7)]
    assert passages[0].text == "Hold the button.\nÄh, twice.\n\nid: 7\ntags: a, 2"
    assert all(document.text[p.start : p.end] == p.text for p in passages)


@pytest.mark.parametrize("line", ["{", "nope", "[" * 100_000, '{"a": 1} {"b": 2}', "1" * 5000])
def test_a_line_that_is_no_json_is_named(line: str) -> None:
    with pytest.raises(IngestError, match="line 2 is not JSON") as error:
        parse("docs/a.jsonl", f'{{"text": "x"}}\n{line}\n'.encode())
    assert error.value.where == "docs/a.jsonl:2"


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["text", "title", "n"]), st.text(max_size=8) | st.integers()), max_size=6)
)
def test_any_records_give_ordered_spans_and_their_lines(records: list[dict[str, str | int]]) -> None:
    document = parse("a.jsonl", "\n".join(json.dumps(record) for record in records).encode())
    assert [section.line for section in document.sections] == list(range(1, len(records) + 1))
    end = 0
    for section in document.sections:
        for span in section.blocks:
            assert end <= span.start < span.end <= len(document.text)
            assert document.text[span.start : span.end].strip()
            end = span.end


PYTHON = '''\
"""What it is for."""
import os

X = 1


# Says what it does.
@decorated(
    1)
def f(a):
    b = 1

    def inner():
        pass
    return a


class A(Base):
    """A class."""

    x = 1

    async def g(self):
        return 1

    class B:
        def h(self): return 2


if X: f(1)
'''


def test_python_is_cut_at_its_functions_and_classes() -> None:
    document = parse("a.py", PYTHON.encode())
    assert document.text == PYTHON
    assert blocks(document) == [
        ("", '"""What it is for."""\nimport os'),
        ("", "X = 1"),
        ("f", PYTHON[PYTHON.index("# Says") : PYTHON.index("\n\n\nclass A")]),
        ("A", 'class A(Base):\n    """A class."""\n\n    x = 1'),
        ("A > g", "    async def g(self):\n        return 1"),
        ("A > B", "    class B:"),
        ("A > B > h", "        def h(self): return 2"),
        ("", "if X: f(1)"),
    ]


@pytest.mark.parametrize(
    "text",
    ["print 'two'\n", "def f(:\n", "(" * 50_000, "x = " + "-" * 100_000 + "1", "a\0b\n", "-" * 10 + "\f\n", "'\\d'\n"],
)
def test_what_python_does_not_parse_is_text_with_blank_lines(text: str) -> None:
    document = parse("a.py", text.encode())
    assert document.text == text
    assert [span.end for section in document.sections for span in section.blocks][-1:] == [len(text.rstrip())]


@pytest.mark.parametrize("path", ["a.md", "a.txt", "a.html", "a.rst", "a.csv", "a.jsonl", "a.py", "a.json"])
def test_unkind_bytes(path: str) -> None:
    with pytest.raises(IngestError, match="not UTF-8"):
        parse(path, b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe")
    assert parse(path, b"").sections == ()


@pytest.mark.parametrize("path", ["a.md", "a.txt", "a.html", "a.rst", "a.csv", "a.py"])
def test_ten_megabytes_on_one_line(path: str) -> None:
    text = "the pump " * (10_000_000 // 9)
    document = parse(path, text.encode())
    assert len(document.text) >= len(text) - 1
    assert sum(len(section.blocks) for section in document.sections) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [("a.md", "> " * 3000 + "deep"), ("a.md", "- " * 3000 + "deep"), ("a.json", "[" * 50_000 + "]" * 50_000),
     ("a.md", "[" * 20_000), ("a.rst", "=\n" * 20_000)],
)  # fmt: skip
def test_what_is_nested_deep_is_read(path: str, text: str) -> None:
    assert parse(path, text.encode()).text == text
