"""The step that joins all shards into one read-only SQLite file; the same passages give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from lsbuild.api import Json, StepContext, StepError
from lsbuild_plugins.sqlite_vec.compile import cluster, heldout, tables, tune
from lsbuild_plugins.sqlite_vec.compile.codes import CodeFile
from lsbuild_plugins.sqlite_vec.compile.corpus import Corpus
from lsbuild_plugins.sqlite_vec.compile.pruning import pruner
from lsbuild_plugins.sqlite_vec.serve.connect import connect, load_vec0, read_meta
from lsbuild_plugins.sqlite_vec.serve.format import APPLICATION_ID, FILE_NAME, SCHEMA, TABLES, Encoding, Meta

FLOAT32_CHUNKS = 5000
"""Up to here vectors stay float32: exact, no slower to scan, at most 8 MB at 384 dimensions. Above, int8 keeps a quarter."""

PRUNED_CHUNKS = 20_000
"""Above, the text index leaves stop words out: a fifth of its size. On 24,000 paragraphs of Python's documentation 0.995 of
the ten best by words stayed, for 256 questions."""

EXACT_CHUNKS = 20_000
"""Up to here every vector is compared: 13 CPU milliseconds for a search. Above, vectors lie in lists and few are read."""

SCALED_FROM = 20_000
"""Vectors, at most, whose components decide the int8 scale."""

ROOM = 0.6
"""Share of the recall that may be missed which is left to the choice of lists; where rounding takes more than the rest,
float32 vectors are kept beside the lists."""

LENGTH_TOLERANCE = 0.01
PAGE_SIZE = 4096
LISTS_PAGE_SIZE = 16384
"""Vectors of 384 bytes fill larger pages better: a fifth less time and 2 % less space than with 4096."""

SEED = 20
"""Of the one shuffle that chooses held-out passages and training vectors."""


class Tuned(NamedTuple):
    """What the index became, and what was learnt on the way; ``note`` says it in a sentence. ``order`` is the row of the
    corpus that each row id stands for.
    """

    meta: Meta
    order: NDArray[np.int64]
    curve: tune.Curve | None = None
    queries: heldout.Queries | None = None
    note: str = ""


def run(context: StepContext) -> Mapping[str, Json]:
    """Options ``embedding`` (the model's name), ``vectors`` (auto, float32 or int8), ``stop_words`` (auto, keep or prune) and
    ``min_recall``; inputs: the shards.
    """
    with TemporaryDirectory(dir=context.out) as spool, Corpus(context.inputs, Path(spool) / "documents") as corpus:
        if not corpus.chunks:
            raise StepError(
                f"none of the {corpus.files} documents holds any text", hint="Check the sources of the vector store."
            )
        _check(corpus, context.options["embedding"])
        meta = _meta(corpus, context.options)
        path = context.out / FILE_NAME
        tuned = write(path, corpus, meta, context, Path(spool))
        return {**_facts(tuned), "index_bytes": path.stat().st_size, **_proved(path, corpus, tuned)}


def write(path: Path, corpus: Corpus, meta: Meta, context: StepContext, spool: Path) -> Tuned:
    """Write the file at ``path``; ``meta`` becomes what the tuning finds.

    Passages are numbered in the order of the corpus, or of the lists, so that what a search finds lies in few pages.
    """
    cluster_it = meta.chunks > EXACT_CHUNKS and meta.encoding == "int8" and context.options["min_recall"] < 1
    with closing(apsw.Connection(str(path))) as db:
        size = LISTS_PAGE_SIZE if cluster_it else PAGE_SIZE
        db.execute(f"PRAGMA page_size={size}; PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF")
        load_vec0(db)
        with db:
            db.execute(TABLES)
            tuned = _clustered(db, corpus, meta, context.options, spool) if cluster_it else _in_order(meta)
            if not tuned.meta.lists:
                tables.flat(db, corpus, tuned.meta)
            tables.texts(db, corpus, tuned.order, _indexed(db, meta, context.options["stop_words"]), context.progress)
            db.execute("INSERT INTO meta VALUES (?)", (msgspec.json.encode(tuned.meta, order="sorted").decode(),))
        db.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA}; ANALYZE; VACUUM")
    return tuned


def _check(corpus: Corpus, embedding: str) -> None:
    """Distances rank as cosines do only between vectors of unit length; a NaN would be near everything."""
    for _, block in corpus.blocks():
        lengths = np.linalg.norm(block, axis=1)
        worst = float(lengths[np.argmax(np.abs(lengths - 1))])
        if not abs(worst - 1) < LENGTH_TOLERANCE:
            raise StepError(
                f"the embedding model gives a vector of length {worst:.4f}; an index needs unit length",
                where=f"models.{embedding}",
                hint="Check the model's pooling and normalisation.",
            )


def _meta(corpus: Corpus, options: Mapping[str, Json]) -> Meta:
    small = corpus.chunks <= FLOAT32_CHUNKS or options["min_recall"] == 1
    encoding: Encoding = "float32" if small else "int8"
    if options["vectors"] != "auto":
        encoding = options["vectors"]
    scale = 1.0
    if encoding == "int8":
        step = -(-corpus.chunks // SCALED_FROM)
        scale = cluster.scale(corpus.take(np.arange(0, corpus.chunks, step)))
    return Meta(
        embedding=options["embedding"],
        dimensions=corpus.dimensions,
        encoding=encoding,
        scale=scale,
        files=corpus.files,
        chunks=corpus.chunks,
        bytes=corpus.bytes,
    )


def _indexed(db: apsw.Connection, meta: Meta, stop_words: str) -> Callable[[str], str]:
    """What the text index is given of a text."""
    if stop_words == "prune" or (stop_words == "auto" and meta.chunks > PRUNED_CHUNKS):
        return pruner(db)
    return str


def _clustered(db: apsw.Connection, corpus: Corpus, meta: Meta, options: Mapping[str, Json], spool: Path) -> Tuned:
    """The lists, and how many of them a search reads; no lists where they cannot have the recall for less."""
    wanted = options["min_recall"]
    shuffled = np.random.default_rng(SEED).permutation(meta.chunks)
    held, rest = np.split(shuffled, [heldout.OF_KIND * (1 + heldout.AMID)])
    queries = heldout.choose(corpus, held)
    with closing(CodeFile(spool / "codes", corpus, meta.scale)) as codes:
        highest = heldout.rounded(corpus, codes, queries)
        coarse = options["vectors"] == "auto" and highest < 1 - ROOM * (1 - wanted)
        if highest < wanted and not coarse:
            return _in_order(meta, note=f"{_ALL}: int8 vectors have recall {highest:.3f} at most")
        count, order = _lists(db, corpus, codes, rest)
    meta = msgspec.structs.replace(meta, lists=count, unrounded=coarse)
    if coarse:
        tables.unrounded(db, corpus, order)
    curve = tune.best(tune.Trial(db, corpus, order, queries), meta, wanted)
    last = curve.points[-1]
    if not curve.met:
        db.execute("DROP TABLE lists; DROP VIEW placed; DROP TABLE codes; DROP TABLE IF EXISTS unrounded")
        note = f"lists reached recall {last.recall:.3f} with {last.probes} probes, more would not pay"
        return _in_order(_exact(meta), curve, note=f"{_ALL}: {note}")
    found = msgspec.structs.replace(
        meta,
        probes=last.probes,
        scan=curve.scan,
        recall=last.recall,
        queries=len(queries.vectors),
        curve=tuple((point.probes, point.recall) for point in curve.points),
    )
    note = f"a search reads {last.probes} of {meta.lists} lists, {last.cost:.0%} of the work of an exact one"
    if coarse:
        note += f"; float32 vectors are kept beside them, since int8 alone has recall {highest:.3f} at most"
    return Tuned(found, order, curve, queries, note)


_ALL = "every search compares all vectors"


def _in_order(meta: Meta, curve: tune.Curve | None = None, note: str = "") -> Tuned:
    """Without lists."""
    return Tuned(meta, np.arange(meta.chunks), curve, note=note)


def _lists(
    db: apsw.Connection, corpus: Corpus, codes: CodeFile, training: NDArray[np.int64]
) -> tuple[int, NDArray[np.int64]]:
    """Make the lists, and their tables; returns how many there are, and the rows of the corpus in their order."""
    count = cluster.lists_for(corpus.chunks)
    centroids = cluster.centroids(codes.take(training[: cluster.PER_LIST * count]), count, codes.scale)
    nearest = np.concatenate([cluster.assign(block, centroids) for block in codes.blocks()])
    return tables.clustered(db, corpus, codes, centroids, nearest), np.argsort(nearest, kind="stable")


def _exact(meta: Meta) -> Meta:
    """Without lists; where int8 is too coarse, in float32."""
    if meta.unrounded:
        return msgspec.structs.replace(meta, lists=0, unrounded=False, encoding="float32", scale=1.0)
    return msgspec.structs.replace(meta, lists=0)


def _facts(tuned: Tuned) -> dict[str, Json]:
    """For the report and the manifest. Milliseconds stay out of ``index``, which the manifest repeats."""
    meta, curve = tuned.meta, tuned.curve
    facts: dict[str, Json] = msgspec.to_builtins(meta)
    told = {name: facts.pop(name) for name in ("lists", "probes", "unrounded", "scan", "recall", "queries", "curve")}
    if tuned.note:
        facts["note"] = tuned.note
    if meta.lists:
        facts |= {"lists": meta.lists, "probes": meta.probes, "recall": meta.recall, "index": told}
    if curve:
        facts["curve"] = [point._asdict() for point in curve.points]
    return facts


def _proved(path: Path, corpus: Corpus, tuned: Tuned) -> dict[str, Json]:
    """Ask the finished file, opened as it will be served, the held-out queries again."""
    meta = read_meta(path)
    with _opened(path) as db:
        rows: Any = db.execute("SELECT count(*) FROM passages").get
        if rows != corpus.chunks:
            raise StepError(f"the index holds {rows} passages of {corpus.chunks}", hint="This is a fault of lsbuild.")
        if not meta.lists or tuned.queries is None:
            return {}
        recall, cpu_ms = tune.Trial(db, corpus, tuned.order, tuned.queries).measure(meta)
    if recall != meta.recall:
        raise StepError(
            f"the finished index has recall {recall:.4f}, it had {meta.recall:.4f} when it was tuned",
            hint="This is a fault of lsbuild.",
        )
    return {"search_cpu_ms": round(cpu_ms, 3)}


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    with closing(connect(path)) as db:
        yield db
