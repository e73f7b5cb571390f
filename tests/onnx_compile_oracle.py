"""A Llama and a BERT in plain numpy (float64), written from the papers: what emitted graphs are compared with where no torch is.

Nothing here is shared with the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]


def _softmax(x: Doubles) -> Doubles:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _erf(x: Doubles) -> Doubles:
    return np.vectorize(math.erf)(x)


def _heads(x: Doubles, count: int) -> Doubles:
    """[S, heads * dim] -> [heads, S, dim]."""
    return x.reshape(len(x), count, -1).transpose(1, 0, 2)


def _rotate(x: Doubles, theta: float) -> Doubles:
    """RoPE (Su et al. 2021) in the half-split order of Llama's checkpoints: [heads, S, dim]."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)


def llama(tensors: Tensors, config: Mapping[str, Any], ids: list[int]) -> Doubles:
    """Logits [S, vocab] of one sequence: RMSNorm, grouped-query attention, RoPE, SwiGLU, tied or own head."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}

    def norm(x: Doubles, name: str) -> Doubles:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * w[name + ".weight"]

    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    x = w["model.embed_tokens.weight"][ids]
    for n in range(config["num_hidden_layers"]):
        at = f"model.layers.{n}."
        y = norm(x, at + "input_layernorm")
        q, k, v = (y @ w[f"{at}self_attn.{part}_proj.weight"].T for part in "qkv")
        query = _rotate(_heads(q, heads), config["rope_theta"])
        key = np.repeat(_rotate(_heads(k, groups), config["rope_theta"]), heads // groups, 0)
        value = np.repeat(_heads(v, groups), heads // groups, 0)
        attended = _softmax(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1]) + mask) @ value
        x = x + attended.transpose(1, 0, 2).reshape(len(ids), -1) @ w[at + "self_attn.o_proj.weight"].T
        y = norm(x, at + "post_attention_layernorm")
        gate, up = (y @ w[f"{at}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    return norm(x, "model.norm") @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def bert(tensors: Tensors, config: Mapping[str, Any], ids: list[int]) -> Doubles:
    """Hidden states [S, D] of one sequence without padding (Devlin et al. 2018)."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}

    def norm(x: Doubles, name: str) -> Doubles:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    def dense(x: Doubles, name: str) -> Doubles:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    heads = config["num_attention_heads"]
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for n in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{n}."
        q, k, v = (_heads(dense(x, f"{at}attention.self.{part}"), heads) for part in ("query", "key", "value"))
        attended = _softmax(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])) @ v
        y = dense(attended.transpose(1, 0, 2).reshape(len(ids), -1), at + "attention.output.dense")
        x = norm(x + y, at + "attention.output.LayerNorm")
        y = dense(x, at + "intermediate.dense")
        y = dense(y * 0.5 * (1 + _erf(y / math.sqrt(2))), at + "output.dense")
        x = norm(x + y, at + "output.LayerNorm")
    return x
