"""A clustered index: recall as promised, with filters too; the same bytes from any machine; exact where lists do not pay."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from lsbuild.api import StepContext
from lsbuild_plugins.documents import passages
from lsbuild_plugins.sqlite_vec.compile import cluster, heldout, index
from lsbuild_plugins.sqlite_vec.serve import segment
from lsbuild_plugins.sqlite_vec.serve.connect import connect, read_meta
from lsbuild_plugins.sqlite_vec.serve.filters import condition
from lsbuild_plugins.sqlite_vec.serve.format import encode
from lsbuild_runtime.manifest import ManifestError
from lsbuild_runtime.ports import Passage

Floats = NDArray[np.float32]
DIMENSIONS = 48
CHUNKS = 6000
PER_DOCUMENT = 10
QUERIES = 40


def unit(points: NDArray[np.float64]) -> Floats:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, seed: int = 5) -> Floats:
    """Points around 150 centres, half of each point noise: no ten of them stand apart from the others."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((150, DIMENSIONS))
    return unit(centres[rng.integers(0, 150, count)] + 0.5 * rng.standard_normal((count, DIMENSIONS)))


def shards(root: Path, vectors: Floats, count: int) -> dict[str, Path]:
    """``vectors`` as documents of ten passages, dealt to ``count`` shards; attributes allow every n-th document."""
    inputs = {}
    for shard in range(count):
        folder = inputs[f"passages.{shard}"] = root / f"shard{shard}"
        folder.mkdir(parents=True)
        rows: list[int] = []
        with (folder / passages.PASSAGES).open("wb") as file:
            for number in range(shard, len(vectors) // PER_DOCUMENT, count):
                own = range(number * PER_DOCUMENT, (number + 1) * PER_DOCUMENT)
                rows += own
                found = [Passage(f"chunk-{row}", f"text {row}", "", "", 0, 4, 1, 1) for row in own]
                attributes: dict[str, str | float | bool] = {f"every{n}": number % n for n in (2, 20, 200)}
                document = passages.Indexed(f"{number:05d}.txt", "0" * 64, 1, attributes, found)
                data = msgspec.msgpack.encode(document)
                file.write(len(data).to_bytes(4, "little") + data)
        (folder / passages.VECTORS).write_bytes(vectors[rows].tobytes())
    return inputs


def build(root: Path, points: Floats, *, count: int = 3, **options: Any) -> tuple[Path, Mapping[str, Any]]:
    """Run the step; returns the index and the step's facts."""
    out = root / "out"
    out.mkdir(parents=True)
    given = {"embedding": "embed", "vectors": "int8", "stop_words": "auto", "min_recall": 0.95, **options}
    facts = index.run(StepContext(out, given, {}, shards(root, points, count), lambda *_: None))
    assert [path.name for path in out.iterdir()] == ["index.db"]
    return out / "index.db", facts


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "EXACT_CHUNKS", 2000)
    monkeypatch.setattr(index, "FLOAT32_CHUNKS", 1000)


@pytest.fixture(scope="module")
def points() -> Floats:
    return clustered(CHUNKS + QUERIES)


@pytest.fixture(scope="module")
def built(points: Floats, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "EXACT_CHUNKS", 2000)
        return build(tmp_path_factory.mktemp("ivf"), points[:CHUNKS])


def rows_of(db: apsw.Connection, found: segment.Ranked) -> list[int]:
    """The rows of the corpus that were found; an index numbers passages in the order of its lists."""
    names: list[Any] = [db.execute("SELECT chunk_id FROM chunks WHERE id = ?", (row,)).get for row, _ in found]
    return [int(name.removeprefix("chunk-")) for name in names]


def recall(path: Path, points: Floats, filters: dict[str, Any] | None, allowed: Callable[[int], bool]) -> float:
    """recall@10 over queries that the build never saw, against all products in float32."""
    rows = np.array([row for row in range(CHUNKS) if allowed(row // PER_DOCUMENT)])
    where = condition(filters) if filters else None
    db, meta = connect(path), read_meta(path)
    hits = 0
    for query in points[CHUNKS:]:
        exact = rows[np.argsort(-(points[rows] @ query), kind="stable")[:10]]
        found = rows_of(db, segment.near(db, meta, query.tobytes(), 10, 10, where))
        assert len(found) == min(10, len(rows))
        assert all(allowed(row // PER_DOCUMENT) for row in found)
        hits += len(set(exact.tolist()) & set(found))
    db.close()
    return hits / (QUERIES * min(10, len(rows)))


def test_lists_are_read_until_the_recall_is_there(built: tuple[Path, Mapping[str, Any]], points: Floats) -> None:
    path, facts = built
    meta = read_meta(path)
    assert 0 < meta.probes < meta.lists == facts["lists"]
    assert meta.curve[-1] == (meta.probes, meta.recall)
    assert [share >= 0.95 for _, share in meta.curve] == [False] * (len(meta.curve) - 1) + [True]
    assert recall(path, points, None, lambda _: True) >= 0.95


@pytest.mark.parametrize("every", [2, 20, 200])
def test_recall_holds_behind_a_filter(built: tuple[Path, Mapping[str, Any]], points: Floats, every: int) -> None:
    """One half, one twentieth and one two-hundredth of the documents are allowed."""
    filters = {"type": "eq", "key": f"every{every}", "value": 0}
    assert recall(built[0], points, filters, lambda document: document % every == 0) >= 0.95


def test_a_filter_that_leaves_nearly_all_rows(built: tuple[Path, Mapping[str, Any]], points: Floats) -> None:
    filters = {"type": "ne", "key": "every200", "value": 0}
    assert recall(built[0], points, filters, lambda document: document % 200 != 0) >= 0.95


def test_a_filter_that_leaves_nothing(built: tuple[Path, Mapping[str, Any]], points: Floats) -> None:
    db, meta = connect(built[0]), read_meta(built[0])
    where = condition({"type": "eq", "key": "every2", "value": 7})
    assert segment.near(db, meta, points[0].tobytes(), 10, 10, where) == []
    db.close()


def test_a_filter_that_leaves_only_what_is_far(built: tuple[Path, Mapping[str, Any]], points: Floats) -> None:
    """The allowed rows lie beyond a plane, the query on this side of it: the lists nearest to it hold none of them."""
    db, meta = connect(built[0]), read_meta(built[0])
    hits = 0
    numbers: dict[str, int] = dict(db.execute("SELECT chunk_id, id FROM chunks"))
    for query in points[CHUNKS:]:
        plane = np.sign(query[:8]) @ points[:CHUNKS, :8].T
        rows = np.flatnonzero(plane < 0)
        where = (
            "c.id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode([numbers[f"chunk-{row}"] for row in rows]).decode(),),
        )
        found = segment.near(db, meta, query.tobytes(), 10, 10, where)
        exact = rows[np.argsort(-(points[rows] @ query))[:10]]
        hits += len(set(rows_of(db, found)) & set(exact.tolist()))
    assert hits / (10 * QUERIES) >= 0.9
    db.close()


def test_scores_are_the_cosines_of_unrounded_queries(built: tuple[Path, Mapping[str, Any]], points: Floats) -> None:
    db, meta = connect(built[0]), read_meta(built[0])
    for query in points[CHUNKS:]:
        found = segment.near(db, meta, query.tobytes(), 20, 30, None)
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        for row, (_, score) in zip(rows_of(db, found), found, strict=True):
            kept = np.frombuffer(encode(points[row].tobytes(), "int8", meta.scale), np.int8).astype(np.float64)
            assert score == pytest.approx(max(0.0, float(kept @ query / np.linalg.norm(kept))), abs=2e-5)
    db.close()


def test_more_passages_come_from_more_lists(built: tuple[Path, Mapping[str, Any]], points: Floats) -> None:
    db, meta = connect(built[0]), read_meta(built[0])
    hits = 0
    for query in points[CHUNKS:]:
        found = segment.near(db, meta, query.tobytes(), 30, 30, None)
        rows = set(rows_of(db, found))
        assert len(found) == len(rows) == 30
        hits += len(set(np.argsort(-(points[:CHUNKS] @ query))[:30].tolist()) & rows)
    assert hits / (30 * QUERIES) >= 0.93
    db.close()


def test_the_bytes_depend_on_the_passages_alone(tmp_path: Path, points: Floats) -> None:
    """Not on how they were sharded, on the number of BLAS threads, or on the kernels that BLAS takes for a processor."""
    digests = set()
    settings = [
        (1, {}),
        (4, {"OPENBLAS_NUM_THREADS": "1"}),
        (4, {"OPENBLAS_NUM_THREADS": "3", "OPENBLAS_CORETYPE": "Nehalem"}),
    ]
    for number, (count, environment) in enumerate(settings):
        inputs = shards(tmp_path / str(number), points[:2100], count)
        out = tmp_path / f"out{number}"
        out.mkdir()
        code = (
            "import sys; from pathlib import Path; from lsbuild.api import StepContext\n"
            "from lsbuild_plugins.sqlite_vec.compile import heldout, index; index.EXACT_CHUNKS = 2000; heldout.OF_KIND = 16\n"
            "options = {'embedding': 'embed', 'vectors': 'int8', 'stop_words': 'prune', 'min_recall': 0.9}\n"
            "inputs = {f'passages.{n}': Path(path) for n, path in enumerate(sys.argv[2:])}\n"
            "facts = index.run(StepContext(Path(sys.argv[1]), options, {}, inputs, lambda *_: None))\n"
            "assert facts['lists'], facts['note']\n"
        )
        paths = [str(path) for path in inputs.values()]
        subprocess.run([sys.executable, "-c", code, str(out), *paths], check=True, env={**os.environ, **environment})
        digests.add(hashlib.sha256((out / "index.db").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_where_lists_do_not_pay_every_vector_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points without any structure: the neighbours of one lie in all lists."""
    monkeypatch.setattr(heldout, "OF_KIND", 16)
    noise = unit(np.random.default_rng(3).standard_normal((2100, 768)))
    path, facts = build(tmp_path, noise, min_recall=0.975)
    assert (read_meta(path).lists, read_meta(path).encoding) == (0, "int8")
    assert facts["note"].startswith("every search compares all vectors: lists reached recall 0.")
    assert "index" not in facts
    db, meta = connect(path), read_meta(path)
    (best, _), *_ = segment.near(db, meta, noise[7].tobytes(), 10, 10, None)
    assert best == 8
    assert {name for (name,) in db.execute("SELECT name FROM sqlite_master")}.isdisjoint({"lists", "placed", "codes"})
    db.close()


def coarse(times: float) -> Floats:
    """Two components are far larger than the others and take nearly all steps of the scale."""
    points = clustered(2100).astype(np.float64)
    points[:, :2] = times * np.sign(points[:, :2])
    return unit(points)


def test_where_int8_is_too_coarse_float32_ranks_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heldout, "OF_KIND", 16)
    points = coarse(3)
    path, facts = build(tmp_path, points, vectors="auto")
    meta = read_meta(path)
    assert (meta.encoding, meta.unrounded) == ("int8", True)
    assert 0 < meta.probes < meta.lists
    assert "float32 vectors are kept beside them, since int8 alone has recall 0." in facts["note"]
    db = connect(path)
    hits = 0
    for row in range(0, 2100, 50):
        cosines = points @ points[row]
        found = segment.near(db, meta, points[row].tobytes(), 10, 30, None)
        places = rows_of(db, found)
        assert places[0] == row
        assert [score for _, score in found] == pytest.approx(cosines[places].tolist(), abs=1e-5)
        hits += len(set(places[:10]) & set(np.argsort(-cosines, kind="stable")[:10].tolist()))
    assert hits / 420 >= 0.9
    db.close()


def test_who_asks_for_int8_alone_is_told_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heldout, "OF_KIND", 16)
    path, facts = build(tmp_path, coarse(8), vectors="int8")
    assert (read_meta(path).lists, read_meta(path).encoding) == (0, "int8")
    assert facts["note"].startswith("every search compares all vectors: int8 vectors have recall 0.")


@pytest.mark.parametrize("options", [{"min_recall": 1.0}, {"vectors": "float32"}])
def test_who_asks_for_exact_search_gets_it(tmp_path: Path, points: Floats, options: dict[str, Any]) -> None:
    path, facts = build(tmp_path, points[:2500], **options)
    assert read_meta(path).lists == 0
    assert "curve" not in facts


def test_many_equal_passages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal vectors any will do, and lists that stay empty are left out."""
    monkeypatch.setattr(heldout, "OF_KIND", 16)
    vectors = np.repeat(clustered(60), 50, axis=0)
    path, facts = build(tmp_path, vectors)
    meta = read_meta(path)
    assert (meta.recall, meta.lists) == (1.0, facts["lists"])
    assert 0 < meta.lists <= 60
    db = connect(path)
    found = segment.near(db, meta, vectors[120].tobytes(), 10, 10, None)
    assert rows_of(db, found) == list(range(100, 110))
    db.close()


def test_damage_in_any_page_is_an_error_of_sqlite_or_no_harm(
    built: tuple[Path, Mapping[str, Any]], points: Floats, tmp_path: Path
) -> None:
    """Each page in turn holds garbage. Other errors than SQLite's would be a 500."""
    data = built[0].read_bytes()
    page = int.from_bytes(data[16:18], "big")
    assert page == index.LISTS_PAGE_SIZE
    place = tmp_path / "index.db"
    where = condition({"type": "eq", "key": "every2", "value": 0})
    refused = 0
    for start in range(page, len(data), page):
        place.write_bytes(data[:start] + b"\xa5" * page + data[start + page :])
        try:
            db, meta = connect(place), read_meta(place)
            for allowed in (None, where):
                segment.near(db, meta, points[start // page].tobytes(), 10, 10, allowed)
        except (apsw.Error, ManifestError):
            refused += 1
    assert refused > 5


def test_what_was_measured_is_told_but_not_in_the_bytes(built: tuple[Path, Mapping[str, Any]]) -> None:
    path, facts = built
    assert facts["search_cpu_ms"] > 0
    assert [point["probes"] for point in facts["curve"]] == [probes for probes, _ in facts["index"]["curve"]]
    assert set(facts["index"]) == {"lists", "probes", "unrounded", "scan", "recall", "queries", "curve"}
    assert facts["index"]["queries"] == 256
    assert facts["note"].startswith(f"a search reads {facts['probes']} of {facts['lists']} lists")
    assert set(msgspec.to_builtins(read_meta(path))) >= set(facts["index"])


def test_codes_are_those_that_the_serve_half_makes() -> None:
    vectors = clustered(300)
    vectors[0, :3] = (0.5 / 300, -0.5 / 300, 1.0)
    for scale in (300.0, 127 / 0.3, 711.03125):
        expected = b"".join(encode(vector.tobytes(), "int8", scale) for vector in vectors)
        assert cluster.encode(vectors, scale).tobytes() == expected


def test_the_scale_of_sparse_vectors_stays_exact() -> None:
    one_hot = np.eye(4096, dtype=np.float32)[:50]
    assert cluster.scale(one_hot) == cluster.LONGEST
    assert cluster.scale(clustered(1000)) == pytest.approx(127 / np.quantile(np.abs(clustered(1000)), 0.9995))


def test_assignment_is_exact_and_takes_the_first_of_equals() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (500, 64)).astype(np.int8)
    centroids = np.concatenate([codes[:30], codes[:5]])
    products = codes.astype(np.float64) @ centroids.T.astype(np.float64)
    cosines = products / np.linalg.norm(centroids.astype(np.float64), axis=1)
    assert cluster.assign(codes, centroids).tolist() == cosines.argmax(axis=1).tolist()


def test_a_clipped_centroid_collects_nothing_that_is_far_from_it() -> None:
    """It is half as long as the others, so by distance it would be the nearest of all to these rows."""
    rows, other, clipped = np.zeros((1, 4), np.int8), np.zeros(4, np.int8), np.zeros(4, np.int8)
    rows[0, :3], other[:2], clipped[3] = (20, 100, 100), (100, 0), 50
    assert cluster.assign(rows, np.stack([clipped, other])).tolist() == [1]


def test_centroids_have_the_length_of_the_vectors() -> None:
    codes = cluster.encode(clustered(2000), 250.0)
    for centroid in cluster.centroids(codes, 20, 150.0).astype(np.float64):
        assert math.sqrt(float(np.square(centroid).sum())) == pytest.approx(150, rel=0.01)
