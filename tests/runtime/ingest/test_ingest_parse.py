"""Files become documents whose spans are exactly those of the file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsbuild_runtime.ingest.document import Document, IngestError, Lines
from lsbuild_runtime.ingest.parse import KINDS, READERS, parse


def blocks(document: Document) -> list[tuple[str, str]]:
    """(heading path, text) of each block."""
    return [
        (" > ".join(section.heading), document.text[span.start : span.end])
        for section in document.sections
        for span in section.blocks
    ]


MARKDOWN = """\
Before any heading.

# *Pump* `P1`

First paragraph
over two lines.

- one
- two

```sh
# not a heading

reset --hard
```

| a | b |
|---|---|
| 1 | 2 |

<!-- a comment says nothing -->

## Reset

    indented code

Filter
------
Rinse it.

## Nothing below

## Last
"""


def test_markdown_follows_the_block_structure() -> None:
    assert blocks(parse("a.md", MARKDOWN.encode())) == [
        ("", "Before any heading."),
        ("Pump P1", "First paragraph\nover two lines."),
        ("Pump P1", "- one\n- two"),
        ("Pump P1", "```sh\n# not a heading\n\nreset --hard\n```"),
        ("Pump P1", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("Pump P1 > Reset", "    indented code"),
        ("Pump P1 > Filter", "Rinse it."),
        ("Pump P1 > Nothing below", "## Nothing below"),
        ("Pump P1 > Last", "## Last"),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_newlines_and_byte_order_mark_do_not_move_anything(newline: str) -> None:
    document = parse("a.md", b"\xef\xbb\xbf" + MARKDOWN.replace("\n", newline).encode())
    expected = blocks(parse("a.md", MARKDOWN.encode()))
    assert [(path, text.replace(newline, "\n")) for path, text in blocks(document)] == expected
    lines = Lines(document.text)
    spans = {document.text[span.start : span.end]: span for section in document.sections for span in section.blocks}
    assert lines.number(spans["Rinse it."].start) == MARKDOWN[: MARKDOWN.index("Rinse")].count("\n") + 1


def test_front_matter_becomes_attributes_and_is_no_text() -> None:
    text = (
        "---\ntitle: A pump\nyear: 2024\nprice: 9.5\nsold: true\nday: 2024-05-01\ntags: [a, 2]\nowner: {name: x}\n"
        "big: 99999999999999999999\n---\nBody.\n"
    )
    document = parse("a.md", text.encode())
    assert document.attributes == {
        "title": "A pump",
        "year": 2024,
        "price": 9.5,
        "sold": True,
        "day": "2024-05-01",
        "tags": "a, 2",
        "big": "99999999999999999999",
    }
    assert blocks(document) == [("", "Body.")]
    assert document.text == text


@pytest.mark.parametrize("text", ["---\n\nWords.\n\n---\nMore.\n", "---\na: [\n---\nMore.\n", "---\nnever closed\n"])
def test_rules_that_look_like_front_matter_stay_text(text: str) -> None:
    document = parse("a.md", text.encode())
    assert document.attributes == {}
    assert any("More" in block or "never" in block for _, block in blocks(document))


RST = """\
=====
Guide
=====

Intro.

Install
-------

Run::

    pip install x

    done

Details
~~~~~~~

Deep.

Use
---
Go.
"""


OBJECTS = """Encoders
========

About encoders.

.. function:: json.dump(obj, fp, \\
                        skipkeys=False)

   Serialize *obj*.

   Second paragraph::

      code

.. py:class:: JSONEncoder(*, indent=None)
   :canonical: json.encoder.JSONEncoder

   Extensible encoder.

   .. method:: default(o)

      Implement this.

   Back in the class.

After it.

.. note::

   No object.
"""


def test_rst_objects_are_sections_below_their_title() -> None:
    assert blocks(parse("a.rst", OBJECTS.encode())) == [
        ("Encoders", "About encoders."),
        ("Encoders > json.dump", ".. function:: json.dump(obj, fp, \\\n                        skipkeys=False)"),
        ("Encoders > json.dump", "   Serialize *obj*."),
        ("Encoders > json.dump", "   Second paragraph::\n\n      code"),
        (
            "Encoders > JSONEncoder",
            ".. py:class:: JSONEncoder(*, indent=None)\n   :canonical: json.encoder.JSONEncoder",
        ),
        ("Encoders > JSONEncoder", "   Extensible encoder."),
        ("Encoders > JSONEncoder", "   .. method:: default(o)\n\n      Implement this."),
        ("Encoders > JSONEncoder", "   Back in the class."),
        ("Encoders", "After it."),
        ("Encoders", ".. note::\n\n   No object."),
    ]


def test_rst_titles_by_first_appearance_of_their_lines() -> None:
    assert blocks(parse("a.rst", RST.encode())) == [
        ("Guide", "Intro."),
        ("Guide > Install", "Run::\n\n    pip install x\n\n    done"),
        ("Guide > Install > Details", "Deep."),
        ("Guide > Use", "Go."),
    ]


def test_code_keeps_functions_with_blank_lines_whole() -> None:
    code = "use os;\n\n\nfn f() {\n    a = 1\n\n    a\n}\n\nlet x = 2;\n"
    assert [text for _, text in blocks(parse("a.rs", code.encode()))] == [
        "use os;",
        "fn f() {\n    a = 1\n\n    a\n}",
        "let x = 2;",
    ]


HTML = """<html><head><title>The  pump</title><style>p{}</style></head><body>
<script>var x = "no";</script><p>Hello <b>bold</b>
 world</p><!-- no --><h1>Pump<br>One</h1><div>In a div<ul><li>one</li><li>two</li></ul>after</div>
<h2>Code</h2><pre>
  a = 1

  b = 2
</pre><h2>Bare</h2><h2>End</h2><table><tr><td>x</td><td>y</td></tr></table></body></html>"""


def test_html_offsets_are_those_of_the_extracted_text() -> None:
    document = parse("a.html", HTML.encode())
    assert document.attributes == {"title": "The pump"}
    assert blocks(document) == [
        ("", "Hello bold world"),
        ("Pump One", "In a div"),
        ("Pump One", "one"),
        ("Pump One", "two"),
        ("Pump One", "after"),
        ("Pump One > Code", "  a = 1\n\n  b = 2"),
        ("Pump One > Bare", "Bare"),
        ("Pump One > End", "x"),
        ("Pump One > End", "y"),
    ]


def test_html_nested_deeper_than_python_may_recurse() -> None:
    document = parse("a.html", b"<div>" * 5000 + b"deep" + b"</div>" * 5000)
    assert blocks(document) == [("", "deep")]


def test_not_utf8_names_file_byte_and_offset() -> None:
    with pytest.raises(IngestError, match=r"byte 0xe9 at offset 3") as error:
        parse("docs/café.md", b"caf\xe9 au lait")
    assert error.value.where == "docs/café.md"
    assert "iconv" in error.value.hint


@pytest.mark.parametrize("path", ["a.odt", "docs/b.docx", "c.PNG"])
def test_other_kinds_are_refused_with_the_supported_ones(path: str) -> None:
    with pytest.raises(IngestError) as error:
        parse(path, b"x")
    assert error.value.where == path
    assert all(name in error.value.hint for name in KINDS)


def test_every_kind_has_a_reader() -> None:
    assert set(KINDS) == set(READERS)


SIGNS = [*'ab#-=~*>`|1.,;" \t\n\r\u2028é漢\0<!', "\ufeff", "```", "\n\n", "---\n", "<p>", "def f():\n", "class A:\n "]
markup = st.lists(st.sampled_from(SIGNS), max_size=80).map("".join)


@settings(deadline=None)
@given(markup, st.sampled_from(["a.md", "a.txt", "a.rst", "a.py", "a.rs", "a.html", "a.csv", "a.tsv"]))
def test_any_text_gives_ordered_spans_inside_the_text(text: str, path: str) -> None:
    document = parse(path, text.encode())
    if not path.endswith(".html"):
        assert document.text == text
    end = 0
    for section in document.sections:
        assert section.blocks
        for span in section.blocks:
            assert end <= span.start < span.end <= len(document.text)
            assert document.text[span.start : span.end].strip()
            end = span.end


@settings(deadline=None)
@given(st.text(st.sampled_from("ab\n\r\u2028 "), max_size=40), st.integers(0, 39))
def test_line_numbers_count_what_editors_count(text: str, offset: int) -> None:
    before = text[:offset]
    if offset < len(text) and not (before.endswith("\r") and text[offset] == "\n"):
        assert Lines(text).number(offset) == len(before.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
