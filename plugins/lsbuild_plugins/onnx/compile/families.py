"""The table of decoder families: what each adds to Llama, and how its config.json is read; emits nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.rope import Rope, read_rope

Config = Mapping[str, Any]
LayerTypes = Callable[[Config, int], list[bool]]
"""(config, number of layers) -> whether each layer attends only to a sliding window."""


def _none_slide(config: Config, layers: int) -> list[bool]:  # noqa: ARG001 - the table's signature
    return [False] * layers


def _all_slide(config: Config, layers: int) -> list[bool]:
    return [config.get("sliding_window") is not None] * layers


def _qwen(config: Config, layers: int) -> list[bool]:
    used = bool(config.get("use_sliding_window")) and config.get("sliding_window") is not None
    return [used and layer >= int(config.get("max_window_layers", 28)) for layer in range(layers)]


def _every_other(config: Config, layers: int) -> list[bool]:  # noqa: ARG001
    return [layer % 2 == 0 for layer in range(layers)]


def _five_of_six(config: Config, layers: int) -> list[bool]:
    pattern = int(config.get("sliding_window_pattern", 6))
    return [(layer + 1) % pattern != 0 for layer in range(layers)]


@dataclass(frozen=True, slots=True)
class Family:
    """What a family has beyond Llama. Biases need no entry: a bias in the weights is a bias in the graph."""

    slides: LayerTypes = _none_slide
    fused: bool = False
    """qkv_proj and gate_up_proj are stored as one matrix each."""
    qk_norm: bool = False
    """Queries and keys are normalised per head before the rotation."""
    gemma: bool = False
    """Norm weights are stored minus one, embeddings are scaled by sqrt(hidden), tanh GELU, head tied by default."""
    post_norms: bool = False
    """Attention and MLP outputs are normalised once more before they join the residual."""


FAMILIES: Mapping[str, Family] = {
    "llama": Family(),
    "mistral": Family(slides=_all_slide),
    "qwen2": Family(slides=_qwen),
    "qwen3": Family(slides=_qwen, qk_norm=True),
    "phi3": Family(slides=_all_slide, fused=True),
    "gemma": Family(gemma=True),
    "gemma2": Family(gemma=True, post_norms=True, slides=_every_other),
    "gemma3_text": Family(gemma=True, post_norms=True, qk_norm=True, slides=_five_of_six),
}
"""``model_type`` of config.json -> family."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What differs between the layers of one model. ``window`` -1 attends to everything."""

    window: int
    rope: Rope


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything about a decoder that its graph is built from."""

    family: Family
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    positions: int
    """Longest sequence the model was made for."""
    epsilon: float
    scale: float
    activation: Literal["silu", "gelu_tanh", "gelu"]
    attention_softcap: float
    final_softcap: float
    tied: bool
    layers: tuple[Layer, ...]


_ACTIVATIONS: Mapping[str, Literal["silu", "gelu_tanh", "gelu"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}


def read_shape(config: Config, where: str) -> Shape:
    """Read a decoder's config.json; SourceError naming the key that is missing or what is not supported."""
    kind = str(config.get("model_type", ""))
    family = FAMILIES[kind]
    _refuse_extras(config, where)
    hidden, heads = _number(config, "hidden_size", where), _number(config, "num_attention_heads", where)
    head_dim = int(config.get("head_dim") or hidden // heads)
    count = _number(config, "num_hidden_layers", where)
    pre_attention = config.get("query_pre_attn_scalar") if family.post_norms else None
    return Shape(
        family=family,
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        ffn=_number(config, "intermediate_size", where),
        vocab=_number(config, "vocab_size", where),
        positions=int(config.get("max_position_embeddings") or 2048),
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        scale=float(pre_attention or head_dim) ** -0.5,
        activation="gelu_tanh" if family.gemma else _activation(config, where),
        attention_softcap=float(config.get("attn_logit_softcapping") or 0.0) if family.post_norms else 0.0,
        final_softcap=float(config.get("final_logit_softcapping") or 0.0) if family.post_norms else 0.0,
        tied=bool(config.get("tie_word_embeddings", family.gemma)),
        layers=_layers(config, family, count, where),
    )


def _layers(config: Config, family: Family, count: int, where: str) -> tuple[Layer, ...]:
    types = config.get("layer_types")
    unknown = set(map(str, types or ())) - {"full_attention", "sliding_attention"}
    if unknown:
        raise SourceError(
            f"layers of type {', '.join(sorted(unknown))} are not supported",
            where=where,
            hint="Supported are full_attention and sliding_attention.",
        )
    sliding = [t == "sliding_attention" for t in types] if types else family.slides(config, count)
    if len(sliding) != count:
        raise SourceError(
            f"layer_types names {len(sliding)} layers, num_hidden_layers is {count}", where=where, hint=_BROKEN
        )
    if any(sliding) and not config.get("sliding_window"):
        raise SourceError("layers slide but sliding_window is missing", where=where, hint=_BROKEN)
    return tuple(
        Layer(
            int(config["sliding_window"]) if slides else -1,
            read_rope(config, "sliding_attention" if slides else "full_attention", where),
        )
        for slides in sliding
    )


_BROKEN = "config.json is not complete: fetch the model again."


def _number(config: Config, key: str, where: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or not 0 < value < 2**24:
        raise SourceError(f"config.json: {key} is {value!r}, expected a positive number", where=where, hint=_BROKEN)
    return value


def _activation(config: Config, where: str) -> Literal["silu", "gelu_tanh", "gelu"]:
    name = config.get("hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise SourceError(
            f"the activation {name!r} is not supported", where=where, hint=f"Supported: {', '.join(_ACTIVATIONS)}."
        )
    return _ACTIVATIONS[name]


def _refuse_extras(config: Config, where: str) -> None:
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unknown")
        raise SourceError(
            f"the weights are quantised already ({method})",
            where=where,
            hint="Give the original float16, bfloat16 or float32 checkpoint: lsbuild quantises it itself.",
        )
    if config.get("use_bidirectional_attention"):
        raise SourceError(
            "bidirectional attention in a decoder is not supported",
            where=where,
            hint="Use a causal language model, or an encoder of the BERT family for embeddings.",
        )
