"""The table of encoder families: where each keeps its tensors, and how its config.json is read; emits nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lsbuild.api import SourceError
from lsbuild_plugins.onnx.compile.disentangled import Disentangled, read_disentangled


@dataclass(frozen=True, slots=True)
class Head:
    """What makes scores of the first token: ``dense``, an activation, ``out``. ``{}`` is the prefix of the encoder."""

    dense: str
    out: str
    activation: Literal["Tanh", "Relu", "Gelu"] = "Tanh"


_OWN_HEAD = Head("classifier.dense", "classifier.out_proj")


@dataclass(frozen=True, slots=True)
class Names:
    """Where a family keeps its tensors. Layer names are relative to ``layer``; ``{}`` is the layer's number."""

    prefixes: tuple[str, ...]
    layer: str = "encoder.layer.{}."
    qkv: tuple[str, str, str] = ("attention.self.query", "attention.self.key", "attention.self.value")
    out: str = "attention.output.dense"
    norm1: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm2: str = "output.LayerNorm"
    keys: Mapping[str, str] | None = None
    """Names in config.json that differ from BERT's."""
    padded_positions: bool = False
    """Positions count from pad_token_id + 1 (RoBERTa)."""
    relative: bool = False
    """A learnt bias by distance is added to every attention (MPNet)."""
    disentangled: bool = False
    """Distances have embeddings, which meet queries and keys (DeBERTa); there are no positions in the input."""
    head: Head = _OWN_HEAD
    """Of a sequence classifier: a reranker is one with a single label."""


_DISTIL_KEYS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}
_ROBERTA = Names(("", "roberta."), padded_positions=True)
ENCODERS: Mapping[str, Names] = {
    "bert": Names(("", "bert."), head=Head("{}pooler.dense", "classifier")),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Names(
        ("", "distilbert."),
        layer="transformer.layer.{}.",
        qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        norm1="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        norm2="output_layer_norm",
        keys=_DISTIL_KEYS,
        head=Head("pre_classifier", "classifier", "Relu"),
    ),
    "mpnet": Names(
        ("", "mpnet."),
        qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        norm1="attention.LayerNorm",
        padded_positions=True,
        relative=True,
    ),
    "deberta-v2": Names(
        ("", "deberta."),
        qkv=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        disentangled=True,
        head=Head("pooler.dense", "classifier", "Gelu"),
    ),
}
"""``model_type`` of config.json -> where its tensors are."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Everything about an encoder that its graph is built from."""

    names: Names
    hidden: int
    layers: int
    heads: int
    ffn: int
    vocab: int
    first_position: int
    positions: int
    """Longest input in tokens."""
    epsilon: float
    activation: str
    disentangled: Disentangled | None = None


def read_encoder(config: Mapping[str, Any], where: str) -> EncoderShape:
    """Read an encoder's config.json; SourceError for missing keys and for variants that are not emitted."""
    names = ENCODERS[str(config["model_type"])]
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise SourceError("only absolute position embeddings are supported", where=where, hint="Use another encoder.")

    def number(key: str) -> int:
        value = config.get((names.keys or {}).get(key, key))
        if not isinstance(value, int) or value <= 0:
            raise SourceError(f"config.json: {key} is {value!r}", where=where, hint="Fetch the model again.")
        return value

    first = int(config.get("pad_token_id") or 0) + 1 if names.padded_positions else 0
    usual = 1e-7 if names.disentangled else 1e-12
    return EncoderShape(
        names=names,
        hidden=number("hidden_size"),
        layers=number("num_hidden_layers"),
        heads=number("num_attention_heads"),
        ffn=number("intermediate_size"),
        vocab=number("vocab_size"),
        first_position=first,
        positions=number("max_position_embeddings") - first,
        epsilon=float(config.get("layer_norm_eps", usual)),
        activation=str(config.get((names.keys or {}).get("hidden_act", "hidden_act"), "gelu")),
        disentangled=read_disentangled(config, where) if names.disentangled else None,
    )
