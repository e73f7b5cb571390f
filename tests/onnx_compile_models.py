"""Small checkpoints with random weights for tests: files as a hub would give them, written by a ten-line safetensors writer."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsbuild.api import Source, SourceFile

Tensors = Mapping[str, NDArray[Any]]


def write_safetensors(path: Path, tensors: Tensors, dtype: str = "F32") -> None:
    """Write F32, F16 or BF16 (truncated) tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, at = [], 0
    for name, value in tensors.items():
        blob = _bytes(value, dtype)
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def _bytes(value: NDArray[Any], dtype: str) -> bytes:
    if dtype == "F16":
        return value.astype("<f2").tobytes()
    if dtype == "BF16":
        return (value.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return value.astype("<f4").tobytes()


BASE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "eos_token_id": 1,
    "bos_token_id": 0,
    "pad_token_id": None,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA = {"head_dim": 32, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}
DECODERS: Mapping[str, dict[str, Any]] = {
    "llama": BASE | {"model_type": "llama", "tie_word_embeddings": True},
    "llama3": BASE | {"model_type": "llama", "rope_scaling": LLAMA3, "tie_word_embeddings": False},
    "mistral": BASE | {"model_type": "mistral", "sliding_window": 8, "head_dim": 32, "tie_word_embeddings": False},
    "qwen2": BASE | {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": BASE | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
    "phi3": BASE | {"model_type": "phi3", "sliding_window": 8, "tie_word_embeddings": False},
    "gemma": BASE | GEMMA | {"model_type": "gemma"},
    "gemma2": BASE
    | GEMMA
    | {
        "model_type": "gemma2",
        "sliding_window": 8,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": BASE
    | GEMMA
    | {
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "query_pre_attn_scalar": 24,
        "num_hidden_layers": 7,
        "sliding_window_pattern": 6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
}
ENCODER_BASE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
DEBERTA = {
    "model_type": "deberta-v2",
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_buckets": 16,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "pooler_hidden_size": 64,
    "pooler_hidden_act": "gelu",
    "pooler_dropout": 0,
}
ENCODERS: Mapping[str, dict[str, Any]] = {
    "bert": ENCODER_BASE | {"model_type": "bert"},
    "roberta": ENCODER_BASE | {"model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 128,
        "dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 96,
        "max_position_embeddings": 64,
        "activation": "gelu",
        "pad_token_id": 0,
        "initializer_range": 0.2,
    },
    "mpnet": ENCODER_BASE | {"model_type": "mpnet", "pad_token_id": 1, "relative_attention_num_buckets": 32},
    "deberta": ENCODER_BASE | DEBERTA,
    "deberta-own": ENCODER_BASE
    | DEBERTA
    | {"position_buckets": -1, "max_relative_positions": 12, "share_att_key": False, "norm_rel_ebd": "none"}
    | {"pos_att_type": "c2p|p2c", "type_vocab_size": 2},
    "deberta-c2p": ENCODER_BASE | DEBERTA | {"pos_att_type": ["c2p"]},
}


def decoder_tensors(config: Mapping[str, Any], seed: int = 0, spread: float = 0.2) -> dict[str, NDArray[Any]]:
    """Random tensors under the names that a checkpoint of this config has."""
    draw = np.random.default_rng(seed)
    kind, width = config["model_type"], config["hidden_size"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim") or width // heads
    q, k, ffn = heads * dim, kv * dim, config["intermediate_size"]

    def some(*shape: int) -> NDArray[Any]:
        return draw.normal(0, spread, shape).astype(np.float32)

    def norm(size: int) -> NDArray[Any]:
        return draw.normal(0 if "gemma" in kind else 1, 0.1, size).astype(np.float32)

    found = {"model.embed_tokens.weight": some(config["vocab_size"], width)}
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}."
        if kind == "phi3":
            found |= {at + "self_attn.qkv_proj.weight": some(q + 2 * k, width)}
            found |= {at + "mlp.gate_up_proj.weight": some(2 * ffn, width)}
        else:
            for part, rows in (("q", q), ("k", k), ("v", k)):
                found[f"{at}self_attn.{part}_proj.weight"] = some(rows, width)
                if kind == "qwen2":
                    found[f"{at}self_attn.{part}_proj.bias"] = some(rows)
            found |= {f"{at}mlp.{part}_proj.weight": some(ffn, width) for part in ("gate", "up")}
        if kind in ("qwen3", "gemma3_text"):
            found |= {f"{at}self_attn.{part}_norm.weight": norm(dim) for part in "qk"}
        found |= {at + "self_attn.o_proj.weight": some(width, q), at + "mlp.down_proj.weight": some(width, ffn)}
        norms = ["input_layernorm", "post_attention_layernorm"]
        norms += (
            ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if kind in ("gemma2", "gemma3_text") else []
        )
        found |= {f"{at}{name}.weight": norm(width) for name in norms}
    found["model.norm.weight"] = norm(width)
    if not config.get("tie_word_embeddings"):
        found["lm_head.weight"] = some(config["vocab_size"], width)
    return found


def encoder_tensors(config: Mapping[str, Any], seed: int = 0, spread: float = 0.2) -> dict[str, NDArray[Any]]:
    """Random tensors under the names that a checkpoint of this config has."""
    draw = np.random.default_rng(seed)
    distil, mpnet = config["model_type"] == "distilbert", config["model_type"] == "mpnet"
    width, ffn = config["dim" if distil else "hidden_size"], config["hidden_dim" if distil else "intermediate_size"]
    layers = config["n_layers" if distil else "num_hidden_layers"]

    def some(*shape: int) -> NDArray[Any]:
        return draw.normal(0, spread, shape).astype(np.float32)

    if config["model_type"] == "deberta-v2":
        return _deberta_tensors(config, draw, some)
    found = {
        "embeddings.word_embeddings.weight": some(config["vocab_size"], width),
        "embeddings.position_embeddings.weight": some(config["max_position_embeddings"], width),
    }
    if "type_vocab_size" in config and not mpnet:
        found["embeddings.token_type_embeddings.weight"] = some(config["type_vocab_size"], width)
    if mpnet:
        found["encoder.relative_attention_bias.weight"] = some(32, config["num_attention_heads"])
    if distil:
        at, qkvo = "transformer.layer.{}.", [f"attention.{part}_lin" for part in ("q", "k", "v", "out")]
        rest, norms = ("ffn.lin1", "ffn.lin2"), ("sa_layer_norm", "output_layer_norm")
    else:
        at, rest = "encoder.layer.{}.", ("intermediate.dense", "output.dense")
        qkvo = [f"attention.attn.{part}" for part in "qkvo"] if mpnet else []
        qkvo = qkvo or [f"attention.self.{part}" for part in ("query", "key", "value")] + ["attention.output.dense"]
        norms = ("attention.LayerNorm" if mpnet else "attention.output.LayerNorm", "output.LayerNorm")
    for n in range(layers):
        shapes = [(name, width, width) for name in qkvo] + [(rest[0], ffn, width), (rest[1], width, ffn)]
        for name, rows, columns in shapes:
            found[at.format(n) + name + ".weight"] = some(rows, columns)
            found[at.format(n) + name + ".bias"] = some(rows)
        found |= _norms(draw, width, *(at.format(n) + name for name in norms))
    return found | _norms(draw, width, "embeddings.LayerNorm")


def _deberta_tensors(config: Mapping[str, Any], draw: np.random.Generator, some: Any) -> dict[str, NDArray[Any]]:
    width, ffn = config["hidden_size"], config["intermediate_size"]
    rows = 2 * max(config["position_buckets"], config["max_relative_positions"])
    found = {"embeddings.word_embeddings.weight": some(config["vocab_size"], width)}
    found["encoder.rel_embeddings.weight"] = some(rows, width)
    if config["type_vocab_size"]:
        found["embeddings.token_type_embeddings.weight"] = some(config["type_vocab_size"], width)
    attention = ["query_proj", "key_proj", "value_proj"]
    attention += [] if config["share_att_key"] else ["pos_key_proj", "pos_query_proj"]
    for n in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{n}."
        shapes = [(f"attention.self.{name}", width, width) for name in attention]
        shapes += [("attention.output.dense", width, width)]
        shapes += [("intermediate.dense", ffn, width), ("output.dense", width, ffn)]
        for name, high, wide in shapes:
            found |= {f"{at}{name}.weight": some(high, wide), f"{at}{name}.bias": some(high)}
        found |= _norms(draw, width, at + "attention.output.LayerNorm", at + "output.LayerNorm")
    norms = ["embeddings.LayerNorm", *(["encoder.LayerNorm"] if config["norm_rel_ebd"] == "layer_norm" else [])]
    return found | _norms(draw, width, *norms)


def classifier_tensors(
    config: Mapping[str, Any], labels: int = 1, seed: int = 0, spread: float = 0.2
) -> dict[str, NDArray[Any]]:
    """The same with the head of a sequence classifier, under the names that transformers gives."""
    kind = config["model_type"]
    draw = np.random.default_rng(seed + 1)
    width = config["dim" if kind == "distilbert" else "hidden_size"]
    others = {"xlm-roberta": "roberta.", "camembert": "roberta.", "deberta-v2": "deberta."}
    prefix = others.get(kind, f"{kind}.")
    found = {prefix + name: value for name, value in encoder_tensors(config, seed, spread).items()}
    dense, out = {
        "bert": ("bert.pooler.dense", "classifier"),
        "distilbert": ("pre_classifier", "classifier"),
        "deberta-v2": ("pooler.dense", "classifier"),
    }.get(kind, ("classifier.dense", "classifier.out_proj"))
    for name, rows in ((dense, width), (out, labels)):
        found[f"{name}.weight"] = draw.normal(0, spread, (rows, width)).astype(np.float32)
        found[f"{name}.bias"] = draw.normal(0, spread, rows).astype(np.float32)
    return found


def write_classifier(folder: Path, config: Mapping[str, Any], tensors: Tensors, dtype: str = "F32") -> Path:
    """A checkpoint whose tokenizer writes a pair as ``<s> query </s> passage </s>``."""
    write_checkpoint(folder, config, tensors, dtype)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    sequence = [{"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB")]
    start, end, last = (
        {"SpecialToken": {"id": name, "type_id": kind}} for name, kind in (("<s>", 0), ("</s>", 0), ("</s>", 1))
    )
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, sequence[0], end],
        "pair": [start, sequence[0], end, sequence[1], last],
        "special_tokens": {name: {"id": name, "ids": [n], "tokens": [name]} for n, name in enumerate(("<s>", "</s>"))},
    }
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def _norms(draw: np.random.Generator, width: int, *names: str) -> dict[str, NDArray[Any]]:
    found = {f"{name}.weight": draw.normal(1, 0.1, width).astype(np.float32) for name in names}
    return found | {f"{name}.bias": draw.normal(0, 0.1, width).astype(np.float32) for name in names}


def write_tokenizer(folder: Path, vocab: int = 128) -> None:
    """A word-level ``tokenizer.json`` of ``vocab`` entries: <s>, </s>, <unk>, then the commonest English words."""
    words = ["<s>", "</s>", "<unk>", *_WORDS.split()]
    words += [f"w{n}" for n in range(vocab - len(words))]
    tokenizer = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [
            {"id": n, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False} for n, word in enumerate(words[:3])
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(words)}, "unk_token": "<unk>"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


_WORDS = (
    "the a of to and in is it for on with by that not be are was has from at as or an his she we they this than more"
)


def write_checkpoint(folder: Path, config: Mapping[str, Any], tensors: Tensors, dtype: str = "F32") -> Path:
    """Write config.json, model.safetensors and a tokenizer; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    write_tokenizer(folder, config["vocab_size"])
    return folder


def as_source(root: Path) -> Source:
    """A folder (or one file) as the builder's fetchers give it."""
    found = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    base = root.parent if root.is_file() else root
    files = (SourceFile(str(path.relative_to(base)), path, "0" * 64, path.stat().st_size) for path in found)
    return Source(str(root), tuple(files))
