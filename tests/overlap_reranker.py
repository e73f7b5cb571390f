"""A cross-encoder with weights made by hand: it scores a passage by the share of its words that stand in the query.

A true BERT of two layers and one head. In the first layer a token looks for its own word in the other text and notes
which text it found it in; in the second the first token averages these notes over the passage; the head reads the mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lsbuild.api import Source, SourceFile, StepContext
from lsbuild_plugins.onnx.compile.rerank import reranker
from onnx_compile_models import write_safetensors

WORDS = 64
WIDTH = 96
TYPE, FOUND, MEAN = WORDS, WORDS + 1, WORDS + 2
"""Dimensions of the hidden state behind those of the words: the text a token is of, where its word was found, the mean."""
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
    "id2label": {"0": "LABEL_0"},
}


def write_overlap(folder: Path, words: Sequence[str]) -> Path:
    """The checkpoint as a hub would give it; it knows ``words`` (at most 59, lower case), all others are one word."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", _tensors())
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    vocabulary += [f"[unused{n}]" for n in range(WORDS - len(vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def compile_overlap(folder: Path, words: Sequence[str], quantize: str = "int8", context: int | None = None) -> Path:
    """The compiled model's folder, made below ``folder``."""
    checkpoint = write_overlap(folder / "checkpoint", words)
    files = (SourceFile(path.name, path, "", path.stat().st_size) for path in sorted(checkpoint.iterdir()))
    sources = {"weights": Source(str(checkpoint), tuple(files))}
    options = {"quantize": quantize, "explicit": True, "context": context, "export": False}
    (folder / "model").mkdir()
    reranker(StepContext(folder / "model", options, sources, {}, lambda *_: None))
    return folder / "model"


def _tensors() -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {
        "bert.embeddings.word_embeddings.weight": np.eye(WORDS, WIDTH) * 4,
        "bert.embeddings.position_embeddings.weight": np.zeros((64, WIDTH)),
        "bert.embeddings.token_type_embeddings.weight": _only((2, WIDTH), (0, TYPE, 4), (1, TYPE, -4)),
        "bert.pooler.dense.weight": _only((WIDTH, WIDTH), (0, MEAN, 0.12)),
        "bert.pooler.dense.bias": np.zeros(WIDTH),
        "classifier.weight": _only((1, WIDTH), (0, 0, 6)),
        "classifier.bias": np.zeros(1),
    }
    words = np.eye(WIDTH) * (np.arange(WIDTH) < WORDS)
    other = _only((WIDTH, WIDTH), (TYPE, TYPE, 1))
    first = {"query": 2 * words - other, "key": 2 * words + other, "value": _only((WIDTH, WIDTH), (FOUND, TYPE, 1))}
    second = {
        "query": np.zeros((WIDTH, WIDTH)),
        "key": _only((WIDTH, WIDTH), (0, TYPE, -1)),
        "value": _only((WIDTH, WIDTH), (MEAN, FOUND, 4)),
    }
    for n, parts in enumerate((first, second)):
        at = f"bert.encoder.layer.{n}."
        parts["output"] = np.eye(WIDTH)
        for part, matrix in parts.items():
            name = "attention.output.dense" if part == "output" else f"attention.self.{part}"
            found |= {f"{at}{name}.weight": matrix, f"{at}{name}.bias": np.zeros(WIDTH)}
        found |= {f"{at}intermediate.dense.weight": np.zeros((32, WIDTH)), f"{at}intermediate.dense.bias": np.zeros(32)}
        found |= {f"{at}output.dense.weight": np.zeros((WIDTH, 32)), f"{at}output.dense.bias": np.zeros(WIDTH)}
        found |= _norms(f"{at}attention.output.LayerNorm") | _norms(f"{at}output.LayerNorm")
    found["bert.encoder.layer.1.attention.self.query.bias"] = _only((1, WIDTH), (0, 0, 20))[0]
    return found | _norms("bert.embeddings.LayerNorm")


def _only(shape: tuple[int, int], *entries: tuple[int, int, float]) -> NDArray[Any]:
    """Zeros but for (row, column, value)."""
    matrix = np.zeros(shape)
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix


def _norms(name: str) -> dict[str, NDArray[Any]]:
    return {f"{name}.weight": np.ones(WIDTH), f"{name}.bias": np.zeros(WIDTH)}
