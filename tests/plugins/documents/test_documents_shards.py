"""Which documents a store has, what they are called, and which share a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Source, SourceError, SourceFile
from lsbuild_plugins.documents.shards import Listed, documents, shards


def test_shards_hold_every_document_once_whatever_the_order() -> None:
    listed = [Listed(SourceFile(f"{number}.txt", Path("x"), "0", 100_000)) for number in range(50)]
    groups = shards(listed)
    assert sorted(each.file.path for group in groups for each in group) == sorted(each.file.path for each in listed)
    assert 8 <= len(groups) <= 32
    assert {frozenset(each.file.path for each in group) for group in shards(reversed(listed))} == {
        frozenset(each.file.path for each in group) for group in groups
    }


def test_one_file_through_two_globs_is_one_document(shop: Any) -> None:
    source = shop.source({"docs/a.md": "x", "docs/b.md": "y"})
    (step,) = shop.steps(source, source)
    assert [file.path for file in step.sources["documents"].files] == ["docs/a.md", "docs/b.md"]


@pytest.mark.parametrize(
    ("uri", "paths", "names"),
    [
        ("docs/*.md", ["docs/a.md"], ["docs/a.md"]),
        ("../../docs/**/*.md", ["../../docs/x/a.md"], ["docs/x/a.md"]),
        ("./docs/", ["a.md", "x/b.md"], ["docs/a.md", "docs/x/b.md"]),
        ("../docs/a.md", ["a.md"], ["docs/a.md"]),
        ("/data/docs", ["a.md", "b.md"], ["data/docs/a.md", "data/docs/b.md"]),
        ("hf://org/name@rev", ["a.md"], ["a.md"]),
        ("https://host/x/a.md", ["host/x/a.md"], ["host/x/a.md"]),
    ],
)
def test_documents_are_named_as_the_spec_spells_them(uri: str, paths: list[str], names: list[str]) -> None:
    files = tuple(SourceFile(path, Path("x"), "0", 1) for path in paths)
    assert [each.file.path for each in documents({"docs0": Source(uri, files)})] == names


def test_attributes_of_all_sources_of_a_file_join_and_the_last_decides() -> None:
    file, other = SourceFile("docs/a.md", Path("x"), "0", 1), SourceFile("docs/b.md", Path("x"), "1", 1)
    sources = {"docs0": Source("docs/**", (file, other)), "docs1": Source("docs/a*", (file,))}
    found = documents(sources, {"docs0": {"team": "all", "year": 1}, "docs1": {"team": "hr"}})
    assert [(each.file.path, each.attributes) for each in found] == [
        ("docs/a.md", {"team": "hr", "year": 1}),
        ("docs/b.md", {"team": "all", "year": 1}),
    ]


def test_two_files_of_one_name_are_refused(shop: Any) -> None:
    with pytest.raises(SourceError, match="different files"):
        shop.steps(shop.source({"a.md": "x"}), shop.source({"a.md": "y"}))


def test_kinds_that_no_reader_takes_are_refused_before_anything_runs(shop: Any) -> None:
    source = shop.source({"docs/a.md": "x", "docs/b.docx": "y"})
    with pytest.raises(SourceError, match=r"'\.docx'") as error:
        shop.steps(source)
    assert error.value.where == "docs/b.docx"
    assert "on_error: skip" in error.value.hint
    assert len(shop.steps(source, on_error="skip")) == 1


def test_a_name_that_is_not_utf8_is_refused() -> None:
    source = Source("docs/*", (SourceFile("docs/caf\udce9.md", Path("x"), "0", 1),))
    with pytest.raises(SourceError, match="not printable UTF-8") as error:
        documents({"docs0": source})
    assert error.value.where.isascii()


def test_no_documents_is_an_error(shop: Any) -> None:
    with pytest.raises(SourceError, match="no documents"):
        shop.steps(shop.source({}))
