"""The step of a shard: what it writes does not depend on what it remembers, and what it knows it does not embed again."""

from __future__ import annotations

import importlib
from array import array
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import SourceError, Step, StepError
from lsbuild.facts import gather
from lsbuild.plan import plan
from lsbuild.running.memo import Memo
from lsbuild_plugins.documents.passages import read, stream
from pdf_files import pdf

WORDS = "The pump is in the water. Press and hold the button of the valve for seconds. "
FILES = {
    "docs/a.md": f"---\nteam: ops\n---\n# Pump\n\n{WORDS}\n\n# Valve\n\nReset the valve.\n",
    "docs/b.txt": WORDS * 30,
    "docs/c.pdf": pdf([["Filter", "The warranty of the filter."]], [(0, "Filter", 0)]),
    "docs/d.jsonl": '{"title": "Reset", "text": "Hold the button."}\n{"n": 1}\n',
    "docs/empty.md": "",
}


MODEL = Step("models.embed.graph", "lsbuild_runtime.manifest:read", ship="models/embed")


def memo_of(shop: Any, step: Step) -> Memo:
    """The memory that the planner gives ``step``."""
    planned = plan([MODEL, step], facts=gather([MODEL, step]), known=lambda _: False, previous={})
    return Memo(shop.tmp_path / "cache", planned.step(step.name).memo)


def embedded_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts that the model is given from now on."""
    hashing = importlib.import_module("vec_hashing")
    texts: list[str] = []
    before = hashing.Hashing.embed

    def embed(self: Any, inputs: Any, *rest: Any) -> Any:
        texts.extend(inputs)
        return before(self, inputs, *rest)

    monkeypatch.setattr(hashing.Hashing, "embed", embed)
    return texts


def test_the_same_bytes_without_with_a_cold_and_with_a_warm_memory(shop: Any) -> None:
    (step,) = shop.steps(shop.source(FILES))
    memo = memo_of(shop, step)
    without, cold, warm = shop.run(step), shop.run(step, memo), shop.run(step, memo)
    assert without.bytes == cold.bytes == warm.bytes
    assert sorted(without.bytes) == ["passages.msgpack", "vectors.f32"]
    assert {**without.facts, "embedded": 0} == warm.facts
    assert without.facts == cold.facts
    assert without.facts["documents"] == 5
    assert without.facts["passages"] == sum(len(document.passages) for document in read(without.out)) == 8
    assert len(without.bytes["vectors.f32"]) == without.facts["passages"] * 96 * 4


def test_a_changed_document_embeds_only_its_new_passages(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (step,) = shop.steps(shop.source(FILES))
    shop.run(step, memo_of(shop, step))
    changed = {**FILES, "docs/a.md": str(FILES["docs/a.md"]).replace("Reset the valve.", "Press the filter.")}
    (again,) = shop.steps(shop.source(changed))
    assert memo_of(shop, again) == memo_of(shop, step)
    texts = embedded_texts(monkeypatch)
    partly = shop.run(again, memo_of(shop, again))
    assert texts == ["Valve\nPress the filter."]
    assert partly.facts["embedded"] == 1
    assert partly.bytes == shop.run(again).bytes


def test_another_size_model_or_version_remembers_nothing_of_this_one(shop: Any) -> None:
    source = shop.source(FILES)
    (step,), (smaller,), (labelled,) = (
        shop.steps(source),
        shop.steps(source, chunk={"tokens": 64}),
        shop.steps(source, on_error="skip", sources=[{"path": "docs/**", "attributes": {"team": "hr"}}]),
    )
    assert memo_of(shop, step).salt != memo_of(shop, smaller).salt
    assert memo_of(shop, step).salt == memo_of(shop, labelled).salt


def test_equal_texts_are_embedded_once(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = embedded_texts(monkeypatch)
    twice = {"a.md": "# A\n\nHold the button.\n", "b.md": "# A\n\nHold the button.\n", "c.txt": "A\nHold the button."}
    (step,) = shop.steps(shop.source(twice))
    run = shop.run(step)
    assert texts == ["A\nHold the button."]
    assert (run.facts["passages"], run.facts["texts"], run.facts["embedded"]) == (3, 1, 1)
    vectors = array("f", run.bytes["vectors.f32"])
    assert vectors[:96] == vectors[96:192] == vectors[192:]
    documents = read(run.out)
    assert [document.path for document in documents] == ["a.md", "b.md", "c.txt"]
    assert len({document.passages[0].chunk_id for document in documents}) == 3


def test_shards_of_one_store_share_what_they_embedded(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsbuild_plugins.documents.shards.SHARD_BYTES", 1)
    texts = embedded_texts(monkeypatch)
    steps = shop.steps(shop.source({f"{number}.md": "Hold the button.\n" for number in range(8)}))
    assert len(steps) > 1
    for step in steps:
        shop.run(step, memo_of(shop, step))
    assert texts == ["Hold the button."]


def test_front_matter_goes_before_the_attributes_of_the_spec(shop: Any) -> None:
    entry = {"path": "docs/**", "attributes": {"team": "hr", "year": 2024, "final": True}}
    (step,) = shop.steps(shop.source(FILES), sources=[entry])
    found = {document.path: document.attributes for document in stream(shop.run(step).out)}
    assert found["docs/a.md"] == {"team": "ops", "year": 2024, "final": True}
    assert found["docs/b.txt"] == {"team": "hr", "year": 2024, "final": True}


BAD = {"a.md": "Hold the button.", "b.md": b"\x89PNG\xff", "c.pdf": b"junk", "d.jsonl": "{", "e.docx": "x"}


def test_a_document_that_cannot_be_read_ends_the_build_by_name_and_reason(shop: Any) -> None:
    (step,) = shop.steps(shop.source({name: text for name, text in BAD.items() if name < "c"}))
    with pytest.raises(SourceError, match="not UTF-8") as error:
        shop.run(step)
    assert error.value.where == "b.md"
    assert "on_error: skip" in error.value.hint


def test_or_it_is_left_out_and_listed(shop: Any) -> None:
    (step,) = shop.steps(shop.source(BAD), on_error="skip")
    run = shop.run(step)
    assert [document.path for document in read(run.out)] == ["a.md"]
    assert [each["path"] for each in run.facts["skipped"]] == ["b.md", "c.pdf", "d.jsonl", "e.docx"]
    assert [each["reason"].partition(":")[0] for each in run.facts["skipped"]] == [
        "not UTF-8", "not a readable PDF", "line 1 is not JSON", "files of kind '.docx' cannot be indexed"
    ]  # fmt: skip


def test_progress_counts_passages_and_ends_at_their_number(shop: Any) -> None:
    (step,) = shop.steps(shop.source(FILES))
    seen: list[tuple[int, int, str]] = []
    run = shop.run(step, seen=seen)
    total = run.facts["passages"]
    counted = [event for event in seen if event[1]]
    assert [done for done, _, _ in counted] == list(range(total + 1))
    assert {each for _, each, _ in counted} == {total}


def test_a_store_of_empty_documents_has_no_passages(shop: Any) -> None:
    (step,) = shop.steps(shop.source({"a.md": "", "b.md": "\n"}))
    run = shop.run(step)
    assert (run.facts["documents"], run.facts["passages"], run.bytes["vectors.f32"]) == (2, 0, b"")


def test_a_model_without_a_tokenizer_is_named(shop: Any) -> None:
    (Path(shop.model) / "tokenizer.json").unlink()
    (step,) = shop.steps(shop.source({"a.md": "x"}))
    with pytest.raises(StepError, match=r"no tokenizer\.json"):
        shop.run(step)
