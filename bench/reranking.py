"""Group ``rerank_*``: time of our cross-encoder and of sentence-transformers for ten passages, and how near the scores are.

The model is MiniLM's body with a head of seeded random weights, since no trained cross-encoder can be had from a package
index: a matrix product takes as long, and both sides read the same weights, but nothing is said about the quality of
rankings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from bench.artefacts import reranker
from bench.environment import CACHE, minilm, ours, peer
from bench.figure import Figure
from bench.rounds import Reading, interleave, medians, spread
from bench.sentences import sentences
from bench.worker import Worker

ROUNDS = 5
PASSAGES = 10
JOINED = {"short": 1, "long": 4}
"""Docstrings in one passage: with the query about 40 and 90 tokens."""
MODES = {"int8": "int8", "fast": "int8-fast"}
PEER = "sentence-transformers CrossEncoder, torch float32"
NAMES = tuple(
    f"rerank_{mode}_{rest}"
    for mode in MODES
    for rest in (*(f"{size}{c}" for size in JOINED for c in ("", "_cpu")), "agreement")
)


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """All models are loaded at the same time and asked in turn, one thread each."""
    modes = [mode for mode in MODES if any(name.startswith(f"rerank_{mode}_") for name in names)]
    source = cross_encoder(minilm(), CACHE / "minilm-judge")
    query, *texts = sentences()
    with ExitStack() as stack:
        workers = {
            mode: stack.enter_context(Worker(ours("rerank", reranker(source, MODES[mode]), 1))) for mode in modes
        }
        workers["peer"] = stack.enter_context(Worker(peer("rerank", source, 1)))
        scores = {name: worker.ask(query=query, passages=texts)["scores"] for name, worker in workers.items()}
        for size, joined in JOINED.items():
            passages = [" ".join(texts[place::PASSAGES][:joined]) for place in range(PASSAGES)]
            yield from _speed(workers, size, query, passages)
    for mode in modes:
        yield _agreement(mode, scores[mode], scores["peer"])


def _speed(workers: Mapping[str, Worker], size: str, query: str, passages: list[str]) -> Iterator[Figure]:
    asks = {name: partial(_ask, worker, query, passages) for name, worker in workers.items()}
    readings = interleave(asks, ROUNDS)
    middle = {name: medians(each) for name, each in readings.items()}
    for mode in [name for name in workers if name != "peer"]:
        for clock, unit in (("", "ms"), ("_cpu", "CPU-ms")):
            yield Figure(
                name=f"rerank_{mode}_{size}{clock}",
                ours=middle[mode]["ms" + clock],
                peer=middle["peer"]["ms" + clock],
                unit=unit,
                better="lower",
                peer_name=PEER,
                conditions=(
                    f"MiniLM-L6 with a random head, {PASSAGES} {size} passages, 1 thread, median of {ROUNDS} interleaved "
                    f"rounds, ours {spread(readings[mode], 'ms' + clock)}, peer {spread(readings['peer'], 'ms' + clock)}"
                ),
            )


def _ask(worker: Worker, query: str, passages: list[str], number: int) -> Reading:  # noqa: ARG001 - one of a round's calls
    answer = worker.ask(query=query, passages=passages)
    return {"ms": 1000 * answer["wall_s"], "ms_cpu": 1000 * answer["cpu_s"]}


def _agreement(mode: str, found: list[float], expected: list[float]) -> Figure:
    """Correlation of the logits, which the scores are made of; how many of the best ten are the same is told beside it."""
    logits = [[math.log(score / (1 - score)) for score in scores] for scores in (found, expected)]
    best = [set(np.argsort(each)[-10:].tolist()) for each in logits]
    return Figure(
        name=f"rerank_{mode}_agreement",
        ours=float(np.corrcoef(logits[0], logits[1])[0, 1]),
        peer=1.0,
        unit="correlation",
        better="higher",
        peer_name=PEER,
        conditions=(
            f"{len(found)} docstrings, scores differ by at most {np.abs(np.subtract(found, expected)).max():.3f}, "
            f"{len(best[0] & best[1])} of the best 10 are the same"
        ),
    )


def cross_encoder(body: Path, folder: Path) -> Path:
    """A classifier with one label over the encoder in ``body``, written once; its head is random, the same every time."""
    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((body / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (body / name).exists():
            (folder / name).write_bytes((body / name).read_bytes())
    head = np.random.default_rng(0).normal(0, 0.3, (1, config["hidden_size"])).astype("<f4")
    partial_file = folder / "model.partial"
    partial_file.write_bytes(_with_head((body / "model.safetensors").read_bytes(), head))
    partial_file.replace(folder / "model.safetensors")
    return folder


def _with_head(data: bytes, head: np.ndarray) -> bytes:
    """A safetensors file with ``bert.`` before every name, and the tensors of a classifier behind the others."""
    start = 8 + int.from_bytes(data[:8], "little")
    held = json.loads(data[8:start])
    header = {f"bert.{name}": entry for name, entry in held.items() if name != "__metadata__"}
    blobs = {"classifier.weight": head, "classifier.bias": np.zeros(1, "<f4")}
    offset = len(data) - start
    for name, blob in blobs.items():
        header[name] = {"dtype": "F32", "shape": list(blob.shape), "data_offsets": [offset, offset + blob.nbytes]}
        offset += blob.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, data[start:], *(blob.tobytes() for blob in blobs.values())))
