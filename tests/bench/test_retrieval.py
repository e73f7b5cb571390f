"""The retrieval group: its corpora, the programs of both sides on small ones, the choice of figures, the tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.contest import CONTESTANTS, Result, evict, least, recall
from bench.corpora import QUERIES, held_out, mixture, nearest
from bench.nearest import DIMENSIONS, WIDTH, K, timed, vectors
from bench.ours.shards import PASSAGES_PER_DOCUMENT, write
from bench.ours.store import index_step, service
from bench.prose import paragraphs, said
from bench.tables import Vectors, Words, render
from bench.worded import MODES, Latency
from bench.worker import Worker, run

from bench import __main__ as command
from lsbuild_plugins.documents.passages import read

COUNT = 300


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with COUNT vectors, QUERIES queries, texts and questions."""
    (tmp_path / "vectors.f32").write_bytes(mixture(1, COUNT, 12).tobytes())
    (tmp_path / "queries.f32").write_bytes(mixture(0, QUERIES, 12).tobytes())
    texts = [
        [f"{document:02}.txt", [f"alpha{document} beta{row % 5} gamma" for row in range(30)]] for document in range(10)
    ]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "questions.json").write_text(json.dumps([f"where is alpha{number % 10}?" for number in range(QUERIES)]))
    return tmp_path


def exact(corpus: Path) -> list[set[int]]:
    rows = nearest(
        *(np.fromfile(corpus / f"{name}.f32", "<f4").reshape(-1, DIMENSIONS) for name in ("vectors", "queries"))
    )
    return [set(each) for each in rows.tolist()]


def program(*words: object) -> list[str]:
    return [sys.executable, "-m", *map(str, words)]


def test_the_mixture_is_seeded_and_of_unit_length() -> None:
    one = mixture(1, 500, 20)
    assert one.shape == (500, DIMENSIONS)
    assert one.dtype == np.float32
    assert np.abs(np.linalg.norm(one, axis=1) - 1).max() < 1e-5
    assert np.array_equal(one, mixture(1, 500, 20))
    assert not np.array_equal(one[:10], mixture(0, 10, 20))


def test_points_of_one_centre_lie_together() -> None:
    scores = mixture(0, 1, 20) @ mixture(1, 500, 20).T
    assert np.sort(scores[0])[-5] > 0.8
    assert np.median(scores) < 0.3


def test_nearest_is_what_sorting_everything_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.corpora.BLOCK", 64)
    points, queries = mixture(1, COUNT, 12), mixture(0, 20, 12)
    assert np.array_equal(nearest(points, queries), np.argsort(-(queries @ points.T), axis=1, kind="stable")[:, :K])


def test_recall_counts_the_queries_that_were_asked() -> None:
    truth = [set(range(10)), set(range(10, 20)), set(range(20, 30))]
    assert recall([list(range(10)), list(range(15, 25))], truth) == 0.75


def test_a_peer_gets_the_least_effort_that_finds_as_much() -> None:
    asked: list[int] = []

    def reached(effort: int) -> float:
        asked.append(effort)
        return {1: 0.5, 2: 0.9, 4: 0.969, 8: 0.97, 16: 0.97}[effort]

    assert least((1, 2, 4, 8, 16), reached, 0.901) == 2
    assert asked == [1, 2]
    assert least((1, 2, 4, 8, 16), reached, 0.99) == 4


def test_held_out_questions_are_not_in_the_corpus() -> None:
    found = [(f"{n:03}", [f"paragraph {n} {m} " + "word " * 20 for m in range(10)]) for n in range(100)]
    kept, questions = held_out(found)
    texts = [text for _, each in kept for text in each]
    assert len(questions) == QUERIES
    assert len(texts) + len(questions) == 1000
    assert all(len(question.split()) == 12 for question in questions)
    assert not any(text.startswith(question) for question in questions for text in texts)


def test_what_a_module_says_are_its_docstrings_and_comments() -> None:
    words = "words that mean something " * 3
    source = (
        f'"""Module {words}"""\n# Comment {words}\n# goes on\nx = 1  # short\ndef f():\n    """Function {words}"""\n'
    )
    found = paragraphs(said(source))
    assert [text.split()[0] for text in found] == ["Module", "Function", "Comment"]
    assert found[2].endswith("goes on")


def test_queries_are_timed_one_by_one_and_the_time_is_bounded(corpus: Path) -> None:
    asked: list[bytes] = []

    def search(vector: bytes) -> Sequence[int]:
        asked.append(vector)
        return [len(asked)]

    answer = timed(search, corpus / "queries.f32", {"first": QUERIES - 1, "count": 3, "within_s": 60})
    data = (corpus / "queries.f32").read_bytes()
    assert answer["found"] == [[1], [2], [3]]
    assert len(answer["cpu_ms"]) == len(answer["wall_ms"]) == 3
    assert asked == [data[-WIDTH:], data[:WIDTH], data[WIDTH : 2 * WIDTH]]
    late = timed(search, corpus / "queries.f32", {"first": 0, "count": 200, "within_s": 0})
    assert len(late["found"]) == 1
    assert vectors(corpus / "queries.f32", 1, 1) == [data[WIDTH : 2 * WIDTH]]


def test_shards_are_what_the_index_step_reads(corpus: Path) -> None:
    write([("a.txt", ["one", "two"]), ("b.txt", ["three"])], corpus / "vectors.f32", corpus / "shards")
    (folder,) = (corpus / "shards").iterdir()
    documents = read(folder)
    assert [passage.text for document in documents for passage in document.passages] == ["one", "two", "three"]
    assert [document.attributes for document in documents] == [{"part": 0}, {"part": 1}]
    assert (folder / "vectors.f32").read_bytes() == (corpus / "vectors.f32").read_bytes()[: 3 * WIDTH]


def test_our_store_is_declared_with_the_defaults_of_the_spec() -> None:
    step = index_step()
    assert step.run.endswith(":run")
    assert step.options["embedding"] == "embed"
    assert service().path == step.ship


def test_sqlite_programs_find_the_exact_neighbours(corpus: Path) -> None:
    said = run(program("bench.peers.nearest_sqlite", "build", corpus / "vectors.f32", corpus / "flat.db")).output
    assert json.loads(said)["peak_mb"] > 1
    for way in ("reused", "each"):
        with Worker(
            program("bench.peers.nearest_sqlite", way, "serve", corpus / "flat.db", corpus / "queries.f32")
        ) as worker:
            answer = worker.ask(first=0, count=20, effort=0, within_s=60)
        assert recall(answer["found"], exact(corpus)) > 0.995
    once = json.loads(
        run(
            program("bench.peers.nearest_sqlite", "reused", "once", corpus / "flat.db", corpus / "queries.f32", 0)
        ).output
    )
    assert once["wall_s"] > 0
    assert once["rss_mb"] > 1


def test_numpy_finds_the_exact_neighbours(corpus: Path) -> None:
    run(program("bench.peers.nearest_numpy", "build", corpus / "vectors.f32", corpus / "flat.npy"))
    evict(corpus / "flat.npy")
    with Worker(
        program("bench.peers.nearest_numpy", "flat", "serve", corpus / "flat.npy", corpus / "queries.f32")
    ) as worker:
        answer = worker.ask(first=0, count=20, effort=0, within_s=60)
    assert [set(rows) for rows in answer["found"]] == exact(corpus)[:20]


def test_our_index_is_built_from_shards_and_searched(corpus: Path) -> None:
    run(program("bench.ours.shards", corpus / "vectors.f32", corpus / "shards"))
    said = json.loads(run(program("bench.ours.index", corpus / "shards", corpus / "ours")).output.splitlines()[-1])
    assert said["facts"]["chunks"] == COUNT == 3 * PASSAGES_PER_DOCUMENT
    with Worker(program("bench.ours.nearest", "serve", corpus / "ours" / "index.db", corpus / "queries.f32")) as worker:
        answer = worker.ask(first=0, count=50, effort=0, within_s=60)
    assert recall(answer["found"], exact(corpus)) > 0.9


@pytest.mark.parametrize("mode", MODES)
def test_both_sides_find_passages_by_words(corpus: Path, mode: str) -> None:
    files = [corpus / "queries.f32", corpus / "questions.json"]
    run(program("bench.ours.shards", corpus / "vectors.f32", corpus / "shards", corpus / "texts.json"))
    run(program("bench.ours.index", corpus / "shards", corpus / "root" / service().path))
    run(program("bench.peers.text_sqlite", "build", corpus / "texts.json", corpus / "vectors.f32", corpus / "naive.db"))
    name, filtered = MODES[mode]
    request: dict[str, Any] = {"first": 1, "count": 1, "mode": name, "filtered": filtered, "within_s": 60}
    for side in (
        program("bench.ours.text", corpus / "root", *files),
        program("bench.peers.text_sqlite", "serve", corpus / "naive.db", *files),
    ):
        with Worker(side) as worker:
            (found,) = worker.ask(**request)["found"]
        assert 0 < len(found) <= K


def test_a_million_vectors_are_searched_only_on_request() -> None:
    (group,) = command.select("retrieval")
    assert not any(name.startswith("retrieval_1m") for name in group.names)
    assert "retrieval_docs_hybrid_cpu" in group.names
    (group,) = command.select("retrieval_1m")
    assert "retrieval_1m_query_cpu_vs_hnsw" in group.names
    assert all(name.startswith("retrieval_1m_") for name in group.names)


def test_tables_put_ratios_to_ours_first() -> None:
    mine = Result(
        label="ours", build_s=2.0, build_cpu_s=1.0, build_mb=90.0, file_mb=5.0, rss_mb=20.0, cold_ms=3.0, cold_cpu_ms=2.0,
        start_ms=90.0, start_cpu_ms=80.0, query_cpu_ms=2.0, query_cpu_p95_ms=3.0, query_wall_ms=2.5, recall=0.96,
        queries=256, effort="", facts={"lists": 64, "probes": 4},
    )  # fmt: skip
    flat = replace(mine, label="flat", query_cpu_ms=20.0, queries=40, recall=1.0)
    words = {"hybrid_filter": Latency(2.0, 3.0, 8.0, 9.0, 256)}
    text = render(
        [
            Vectors("10k", 10_000, "quiet", 10.0, {"ours": mine, "flat": flat}),
            Words("docs", 500, "noisy", words),
        ]
    )
    assert "| 10k | 10000 | 2.00 | 3.00 | 10.0 | 0.960 | 64 | 4 |" in text
    assert "| flat | 10.0 | 20.0 (40 queries) |" in text
    assert "| limit of a flat float32 scan at 10.0 GB/s | 0.768 | 1.54 |" in text
    assert "| hybrid, filter | 4.00 | 2.00 | 3.00 | 8.00 | 9.00 |" in text
    assert len(CONTESTANTS) == 6
