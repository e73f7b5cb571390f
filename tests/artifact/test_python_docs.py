"""The documentation example: real reference pages, questions with answers read off them, citations that lead to the lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifact_tools import ROOT, Lsbuild, booted, compiled, post
from lsbuild.evals.questions import load

EXAMPLE = ROOT / "examples" / "python-docs"
SPEC = EXAMPLE / "spec.yaml"
QUESTIONS = load(EXAMPLE / "evals" / "questions.yaml", "questions.yaml")


@pytest.fixture(scope="session")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example compiled for this host, its gates held. Needs Debian's archive and a package index once."""
    out = tmp_path_factory.mktemp("python-docs") / "artifact"
    return compiled(lsbuild, SPEC, out, seconds=1800)  # four CPU minutes from an empty cache


@pytest.fixture(scope="session")
def pages(lsbuild: Lsbuild, artifact: Path) -> dict[str, list[str]]:
    """The lines of every page, as the lock pins them."""
    lock = json.loads((EXAMPLE / "lsbuild.lock").read_text())
    (source,) = (entry for uri, entry in lock["sources"].items() if uri.startswith("deb://"))
    assert artifact.is_dir()
    blobs = lsbuild.cache / "blobs"
    return {
        name: (blobs / file["sha256"][:2] / file["sha256"]).read_text(encoding="utf-8").split("\n")
        for name, file in source["files"].items()
    }


@pytest.fixture(scope="session")
def url(artifact: Path) -> Iterator[str]:
    """The example, booted."""
    with booted(artifact) as found:
        yield found


def plain(text: str) -> str:
    return " ".join(text.split())


def test_every_answer_stands_in_its_page_at_its_lines(pages: dict[str, list[str]]) -> None:
    assert sum(bool(question.answers) for question in QUESTIONS) >= 50
    for question in QUESTIONS:
        for answer in question.answers:
            assert answer.span is not None, question.question
            lines = pages[answer.file][answer.span[0] - 1 : answer.span[1]]
            assert plain(answer.text) in plain("\n".join(lines)), f"{question.question}: {answer.label}"


ASKED = (
    "Can the zipfile module create encrypted archives?",
    "Does timeit turn off garbage collection?",
    "How do I create a directory together with its missing parents?",
    "What happens when an item is added to a full deque of bounded length?",
    "What is special about a reentrant lock?",
)


@pytest.mark.parametrize("text", ASKED)
def test_the_agent_cites_the_right_lines(url: str, pages: dict[str, list[str]], text: str) -> None:
    question = next(each for each in QUESTIONS if each.question == text)
    body = {"model": "librarian", "messages": [{"role": "user", "content": text}], "temperature": 0}
    message = post(f"{url}/v1/chat/completions", body)["choices"][0]["message"]
    (note, *_) = message["annotations"]
    citation = note.get("file_citation", note)
    cited = plain("\n".join(pages[citation["filename"]][citation["line_start"] - 1 : citation["line_end"]]))
    quote = re.split(r"\[\d+\][:,]?\s*", message["content"], maxsplit=1)[1]
    assert plain(quote) in cited  # the citation leads to the very words
    assert any(
        answer.span is not None
        and answer.file == citation["filename"]
        and citation["line_start"] <= answer.span[1]
        and answer.span[0] <= citation["line_end"]
        for answer in question.answers
    ), (message["content"], citation)


def test_a_server_measures_as_the_build_did(lsbuild: Lsbuild, artifact: Path, url: str) -> None:
    built: dict[str, Any] = json.loads((artifact / "evals" / "search" / "eval.json").read_text())
    done = lsbuild("eval", SPEC, "--against", url, "--only", "search", "--json")
    assert done.code == 0, done.out + done.err
    served = done.json["evals"]["search"]
    assert served["metrics"] == built["metrics"]
    assert [each["came"] for each in served["asked"]] == [each["came"] for each in built["asked"]]


def test_a_missed_gate_fails_the_build_before_anything_is_packed(
    lsbuild: Lsbuild, artifact: Path, tmp_path: Path
) -> None:
    assert artifact.is_dir()
    done = lsbuild(SPEC, "-o", tmp_path / "none", "--set", "evals.search.gates.mrr=1")
    assert done.code == 5
    assert re.search(r"evals\.search: mrr is 0\.\d+, the gate is 1", done.err)
    assert "expected" in done.err
    assert not (tmp_path / "none").exists()
