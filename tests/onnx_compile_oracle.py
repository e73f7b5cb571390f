"""Decoders, a BERT and a DeBERTa in plain numpy (float64), from the papers: what graphs are compared with where no torch is.

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


def _frequencies(config: Mapping[str, Any], sliding: bool, dim: int) -> Doubles:
    """RoPE's frequencies (Su et al. 2021) after the linear or Llama 3 scaling that the config asks for."""
    theta, scaling = config["rope_theta"], config.get("rope_scaling") or {}
    if sliding and "rope_local_base_freq" in config:
        theta, scaling = config["rope_local_base_freq"], {}
    found = theta ** (-np.arange(0, dim, 2) / dim)
    if scaling.get("rope_type") == "linear":
        return found / scaling["factor"]
    if scaling.get("rope_type") == "llama3":
        turns = scaling["original_max_position_embeddings"] * found / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0, 1)
        return found * (keep + (1 - keep) / scaling["factor"])
    return found


def _rotate(x: Doubles, frequencies: Doubles) -> Doubles:
    """Rotate in the half-split order of Llama's checkpoints: [heads, S, dim]."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None] * frequencies
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)


def _slides(config: Mapping[str, Any], layer: int) -> bool:
    kind = config["model_type"]
    if kind == "gemma2":
        return layer % 2 == 0
    if kind == "gemma3_text":
        return (layer + 1) % config["sliding_window_pattern"] != 0
    return kind in ("mistral", "phi3")


def _mask(length: int, window: int | None) -> Doubles:
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    return np.where(seen, 0.0, -np.inf)


def decoder(tensors: Tensors, config: Mapping[str, Any], ids: list[int]) -> Doubles:
    """Logits [S, vocab] of one sequence, for every family that lsbuild emits.

    Llama: RMSNorm, grouped-query attention, RoPE, SwiGLU. Qwen 2 adds biases, Qwen 3 norms of queries and keys, Mistral
    and Phi-3 a window, Gemma its own norms, scales, GELU, soft caps and alternating windows.
    """
    w = {name: value.astype(np.float64) for name, value in tensors.items()}
    gemma = "gemma" in config["model_type"]
    post = config["model_type"] in ("gemma2", "gemma3_text")
    width, heads, groups = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    dim, length = config.get("head_dim") or width // heads, len(ids)
    scale = (config["query_pre_attn_scalar"] if post else dim) ** -0.5
    cap, last = config.get("attn_logit_softcapping"), config.get("final_logit_softcapping")

    def norm(x: Doubles, name: str) -> Doubles:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * (w[name + ".weight"] + gemma)

    def dense(x: Doubles, name: str) -> Doubles:
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)

    def active(x: Doubles) -> Doubles:
        if gemma:
            return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x / (1 + np.exp(-x))

    x = w["model.embed_tokens.weight"][ids] * (math.sqrt(width) if gemma else 1.0)
    for n in range(config["num_hidden_layers"]):
        at, sliding = f"model.layers.{n}.", _slides(config, n)
        y = norm(x, at + "input_layernorm")
        if at + "self_attn.qkv_proj.weight" in w:
            q, k, v = np.split(dense(y, at + "self_attn.qkv_proj"), [heads * dim, (heads + groups) * dim], axis=-1)
        else:
            q, k, v = (dense(y, f"{at}self_attn.{part}_proj") for part in "qkv")
        query, key, value = _heads(q, heads), _heads(k, groups), _heads(v, groups)
        if at + "self_attn.q_norm.weight" in w:
            query, key = norm(query, at + "self_attn.q_norm"), norm(key, at + "self_attn.k_norm")
        turns = _frequencies(config, sliding, dim)
        query, key = _rotate(query, turns), np.repeat(_rotate(key, turns), heads // groups, 0)
        scores = query @ key.transpose(0, 2, 1) * scale
        scores = np.tanh(scores / cap) * cap if cap else scores
        weights = _softmax(scores + _mask(length, config["sliding_window"] if sliding else None))
        y = (weights @ np.repeat(value, heads // groups, 0)).transpose(1, 0, 2).reshape(length, -1)
        y = dense(y, at + "self_attn.o_proj")
        x = x + (norm(y, at + "post_attention_layernorm") if post else y)
        y = norm(x, at + ("pre_feedforward_layernorm" if post else "post_attention_layernorm"))
        if at + "mlp.gate_up_proj.weight" in w:
            gate, up = np.split(dense(y, at + "mlp.gate_up_proj"), 2, axis=-1)
        else:
            gate, up = (dense(y, f"{at}mlp.{part}_proj") for part in ("gate", "up"))
        y = dense(active(gate) * up, at + "mlp.down_proj")
        x = x + (norm(y, at + "post_feedforward_layernorm") if post else y)
    logits = norm(x, "model.norm") @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T
    return np.tanh(logits / last) * last if last else logits


def bert(tensors: Tensors, config: Mapping[str, Any], ids: list[int], types: list[int] | None = None) -> Doubles:
    """Hidden states [S, D] of one sequence without padding (Devlin et al. 2018). ``types`` None: all of type 0."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}

    def norm(x: Doubles, name: str) -> Doubles:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    def dense(x: Doubles, name: str) -> Doubles:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    heads = config["num_attention_heads"]
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][types or [0] * len(ids)], "embeddings.LayerNorm")
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


def bert_logit(tensors: Tensors, config: Mapping[str, Any], ids: list[int], types: list[int]) -> float:
    """The logit of a BERT classifier with one label: the pooled first token times the classifier (Nogueira and Cho 2019)."""
    inner = {name.removeprefix("bert."): value for name, value in tensors.items()}
    first = bert(inner, config, ids, types)[0]
    pooled = np.tanh(inner["pooler.dense.weight"] @ first + inner["pooler.dense.bias"])
    return float(inner["classifier.weight"][0] @ pooled + inner["classifier.bias"][0])


def deberta(tensors: Tensors, config: Mapping[str, Any], ids: list[int]) -> Doubles:
    """Hidden states [S, D] of one sequence (He et al. 2021, section 3, with the buckets of DeBERTa v2), pair by pair."""
    w = {name: value.astype(np.float64) for name, value in tensors.items()}
    kinds = config["pos_att_type"]
    kinds = kinds.split("|") if isinstance(kinds, str) else kinds

    def norm(x: Doubles, name: str) -> Doubles:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    def dense(x: Doubles, name: str) -> Doubles:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    heads, length = config["num_attention_heads"], len(ids)
    buckets, most = config["position_buckets"], config["max_relative_positions"]
    most = most if most > 0 else config["max_position_embeddings"]
    span = buckets if buckets > 0 else most

    def row(distance: int) -> int:
        half = buckets // 2
        if buckets > 0 and abs(distance) > half:
            step = math.ceil(math.log(abs(distance) / half) / math.log((most - 1) / half) * (half - 1)) + half
            distance = step if distance > 0 else -step
        return min(max(distance + span, 0), 2 * span - 1)

    x = w["embeddings.word_embeddings.weight"][ids]
    if "embeddings.token_type_embeddings.weight" in w:
        x = x + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    relative = w["encoder.rel_embeddings.weight"]
    relative = norm(relative, "encoder.LayerNorm") if config["norm_rel_ebd"] == "layer_norm" else relative
    for n in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{n}."
        q, k, v = (_heads(dense(x, f"{at}attention.self.{part}_proj"), heads) for part in ("query", "key", "value"))
        own = "" if config["share_att_key"] else "pos_"
        scores = q @ k.transpose(0, 2, 1)
        for i in range(length):
            for j in range(length):
                if "c2p" in kinds:
                    keys = _heads(dense(relative, f"{at}attention.self.{own}key_proj"), heads)
                    scores[:, i, j] += (q[:, i] * keys[:, row(i - j)]).sum(-1)
                if "p2c" in kinds:
                    queries = _heads(dense(relative, f"{at}attention.self.{own}query_proj"), heads)
                    scores[:, i, j] += (k[:, j] * queries[:, row(i - j)]).sum(-1)
        attended = _softmax(scores / math.sqrt(q.shape[-1] * (1 + len(kinds)))) @ v
        y = dense(attended.transpose(1, 0, 2).reshape(length, -1), at + "attention.output.dense")
        x = norm(x + y, at + "attention.output.LayerNorm")
        y = dense(x, at + "intermediate.dense")
        y = dense(y * 0.5 * (1 + _erf(y / math.sqrt(2))), at + "output.dense")
        x = norm(x + y, at + "output.LayerNorm")
    return x


def deberta_logits(tensors: Tensors, config: Mapping[str, Any], ids: list[int]) -> Doubles:
    """The logits of a DeBERTa classifier: a layer and GELU over the first token, then the classifier."""
    inner = {name.removeprefix("deberta."): value for name, value in tensors.items()}
    pooled = inner["pooler.dense.weight"] @ deberta(inner, config, ids)[0] + inner["pooler.dense.bias"]
    pooled = pooled * 0.5 * (1 + _erf(pooled / math.sqrt(2)))
    found: Doubles = inner["classifier.weight"] @ pooled + inner["classifier.bias"]
    return found
