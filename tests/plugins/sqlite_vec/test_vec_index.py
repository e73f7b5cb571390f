"""The compiled index: same bytes for the same passages, small and exact vectors, clear refusals."""

from __future__ import annotations

import hashlib
import random
from array import array
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np
import pytest

from lsbuild.api import StepContext, StepError
from lsbuild_plugins.documents import passages
from lsbuild_plugins.sqlite_vec.compile import index
from lsbuild_plugins.sqlite_vec.serve.connect import connect, read_meta
from lsbuild_plugins.sqlite_vec.serve.format import encode
from lsbuild_runtime.http import Context
from lsbuild_runtime.ports import Embedded, Passage

DOCS = {
    f"docs/{n}.md": f"# Part {n}\n\nPart {n} is a {word}.\n" for n, word in enumerate(["pump", "valve", "filter"] * 3)
}


def digest(root: Path) -> str:
    return hashlib.sha256((root / "indexes/manuals/index.db").read_bytes()).hexdigest()


@pytest.mark.parametrize("vectors", ["float32", "int8"])
def test_two_builds_are_byte_identical(compiler: Any, vectors: str) -> None:
    config = {"vectors": vectors}
    first, second = compiler.build(DOCS, config=config), compiler.build(dict(reversed(DOCS.items())), config=config)
    assert digest(first) == digest(second)
    assert digest(first) != digest(compiler.build({**DOCS, "docs/0.md": "# Part 0\n\nNew.\n"}, config=config))


def test_the_index_does_not_depend_on_how_documents_were_sharded(
    compiler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = compiler.build(DOCS)
    monkeypatch.setattr("lsbuild_plugins.documents.shards.SHARD_BYTES", 1)
    assert digest(one) == digest(compiler.build(DOCS))


def test_empty_and_equal_documents(compiler: Any) -> None:
    root = compiler.build({"a.md": "", "b.md": "The pump.\n", "c/d.md": "The pump.\n", "e.txt": "\n \n"})
    store = compiler.open(root)
    assert (store.info().files, store.info().chunks, store.info().bytes) == (4, 2, 23)
    hits = store.search("pump", Context())
    assert [(hit.filename, hit.text) for hit in hits] == [("b.md", "The pump."), ("c/d.md", "The pump.")]
    assert len({hit.chunk_id for hit in hits}) == len({hit.file_id for hit in hits}) == 2
    assert hits[0].file_id.startswith("file-")
    assert len(hits[0].file_id) == 29


def test_equal_texts_are_embedded_once(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    model = compiler.hashing()
    model.read = seen
    monkeypatch.setattr("vec_hashing.open_hashing", lambda *_: model)
    compiler.build({"a.md": "The pump.\n", "b.md": "The pump.\n", "c.md": "The valve.\n"})
    assert sorted(seen) == ["The pump.", "The valve."]


def test_no_text_at_all_is_an_error(compiler: Any) -> None:
    with pytest.raises(StepError, match="none of the 2 documents"):
        compiler.build({"a.md": "", "b.txt": "\n"})


def test_a_passage_that_the_model_refuses_is_named(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vec_hashing.open_hashing", lambda *_: compiler.hashing(longest=3))
    with pytest.raises(StepError, match="6 words, at most 3") as error:
        compiler.build({"docs/a.md": "fine\n\n# X\n\nthis is too long now\n"})
    assert error.value.where == "docs/a.md:5"
    assert "chunk.tokens" in error.value.hint


def test_vectors_that_are_not_of_unit_length_are_refused(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = compiler.hashing(dimensions=8)
    monkeypatch.setattr(model, "_vector", lambda _: array("f", [2.0] + [0.0] * 7).tobytes())
    monkeypatch.setattr("vec_hashing.open_hashing", lambda *_: model)
    with pytest.raises(StepError, match=r"length 2\.0000"):
        compiler.build({"a.md": "x"})


def test_a_model_without_tokenizer_is_refused(compiler: Any) -> None:
    (compiler.model / "tokenizer.json").unlink()
    with pytest.raises(StepError, match=r"tokenizer\.json"):
        compiler.build({"a.md": "x"})


def test_float32_for_small_stores_and_int8_beyond(compiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compiler.build(DOCS) / "indexes/manuals/index.db"
    assert (read_meta(path).encoding, read_meta(path).scale) == ("float32", 1.0)
    monkeypatch.setattr(index, "FLOAT32_CHUNKS", 8)
    path = compiler.build(DOCS) / "indexes/manuals/index.db"
    assert read_meta(path).encoding == "int8"
    assert read_meta(path).scale > 127


def test_int8_rounds_half_to_even_and_clips() -> None:
    vector = array("f", [0.0, 0.25, 0.75, -0.25, 1.0, -1.0, 0.5]).tobytes()
    assert array("b", encode(vector, "int8", 2.0)).tolist() == [0, 0, 2, 0, 2, -2, 1]
    assert array("b", encode(vector, "int8", 200.0)).tolist() == [0, 50, 127, -50, 127, -127, 100]


@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_int8_search_finds_what_exact_search_finds(compiler: Any, tmp_path: Path, spread: float) -> None:
    """recall@10 >= 0.98 over 50 queries, on vectors without any structure and on clusters."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((40, 384))
    points = centres[rng.integers(0, 40, 2050)] * (1 - spread) + rng.standard_normal((2050, 384)) * spread
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    vectors, queries = points[:2000], points[2000:]
    root = indexed(tmp_path, vectors, "int8")

    class Given:
        def embed(self, inputs: list[str], _: Context) -> Embedded:
            return Embedded((queries[int(inputs[0])].tobytes(),), 1)

    class Host:
        def get(self, *_: str) -> Given:
            return Given()

    store = compiler.open(root, Host())
    found = 0
    for number, query in enumerate(queries):
        cosines = vectors @ query
        exact = {f"chunk {row}" for row in np.argsort(-cosines)[:10]}
        hits = store.search(str(number), Context(), mode="vector", limit=10)
        found += len(exact & {hit.text for hit in hits})
        assert hits[0].score == pytest.approx(float(cosines.max()), abs=0.01)
    assert found / 500 >= 0.98


def indexed(tmp_path: Path, vectors: Any, encoding: str) -> Path:
    """A bundle whose index holds ``vectors`` with the texts ``chunk 0`` ..."""
    texts = [f"chunk {row}" for row in range(len(vectors))]
    found = [Passage(f"chunk-{row}", text, "", "", 0, len(text), 1, 1) for row, text in enumerate(texts)]
    shard = tmp_path / "shard"
    shard.mkdir()
    document = passages.Indexed("a.txt", "0" * 64, 1, {}, found)
    data = msgspec.msgpack.encode(document)
    (shard / passages.PASSAGES).write_bytes(len(data).to_bytes(4, "little") + data)
    (shard / passages.VECTORS).write_bytes(vectors.tobytes())
    out = tmp_path / "bundle/indexes/manuals"
    out.mkdir(parents=True)
    options = {"embedding": "embed", "vectors": encoding, "stop_words": "auto", "min_recall": 0.95}
    index.run(StepContext(out, options, {}, {"passages.0": shard}, lambda *_: None))
    return tmp_path / "bundle"


def test_the_index_cannot_be_written(compiler: Any) -> None:
    connection = connect(compiler.build(DOCS) / "indexes/manuals/index.db")
    with pytest.raises(apsw.ReadOnlyError):
        connection.execute("DELETE FROM passages")
    connection.close()


def test_texts_with_nul_and_odd_code_points_come_back(compiler: Any) -> None:
    text = "a\0b \ufffe \U0001f600 " + "".join(chr(random.Random(1).randrange(0x20, 0xD7FF)) for _ in range(20))
    (hit,) = compiler.open(compiler.build({"a.txt": text})).search("b", Context())
    assert hit.text == text.rstrip()
