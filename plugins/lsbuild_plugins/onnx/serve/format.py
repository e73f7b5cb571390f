"""The format of a compiled model folder: ``model.json`` beside the graph; the serve half reads it, the compile half writes it.

A folder holds ``model.json``, ``model.onnx`` (and ``model.data``, its external weights), ``tokenizer.json`` and, for a
chat model, ``chat_template.jinja``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from lsbuild_plugins.onnx.serve.forms import Reasoning, ToolForm

FILE_NAME = "model.json"


class Encoder(Struct, frozen=True, kw_only=True, tag="encoder"):
    """An embedding model.

    Our own graphs take ``input_ids`` i64[B,S] and ``attention_mask`` i32[B,S] (1 = token, 0 = padding) and give
    ``embedding`` f32[B,D], pooled and of unit length: ``pooling`` is "graph". A graph taken as it was gives hidden
    states f32[B,S,D] under the name ``output``; they are pooled ("mean" or "cls") and normalised after the run.
    ``inputs`` names what the graph takes; ``mask`` is the dtype of the attention mask.
    """

    dimensions: int
    max_tokens: int
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    mask: Literal["int32", "int64"] = "int32"
    output: str = "embedding"
    pooling: Literal["graph", "mean", "cls"] = "graph"
    normalize: bool = True
    batch_invariant: bool = True
    """Whether a vector is the same alone and in a batch (false for graphs that quantise activations per tensor)."""


class Reranker(Struct, frozen=True, kw_only=True, tag="reranker"):
    """A model that reads a query and a passage together and says how well they fit.

    Our own graphs take ``input_ids`` i64[B,S], ``attention_mask`` i32[B,S] and, where the model tells the two texts apart
    by type, ``token_type_ids`` i64[B,S] (0 = query, 1 = passage), and give ``logit`` f32[B]. A graph taken as it was
    gives f32[B,1] under the name ``output``. ``inputs``, ``mask`` and ``batch_invariant`` as of Encoder.
    """

    max_tokens: int
    """Longest pair, with its separators."""
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    mask: Literal["int32", "int64"] = "int32"
    output: str = "logit"
    batch_invariant: bool = True


class Classifier(Struct, frozen=True, kw_only=True, tag="classifier"):
    """A model that sorts texts under labels.

    Our own graphs take ``input_ids`` i64[B,S] and ``attention_mask`` i32[B,S] and give ``logits`` f32[B,labels]; so does a
    graph taken as it was, under the name ``output``. ``inputs``, ``mask`` and ``batch_invariant`` as of Encoder.
    """

    max_tokens: int
    """Longest text in tokens, with its marks; longer ones are read in windows."""
    labels: tuple[str, ...]
    scores: Literal["softmax", "sigmoid"]
    """How logits become scores: one label of several (``softmax``), or each by itself."""
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    mask: Literal["int32", "int64"] = "int32"
    output: str = "logits"
    batch_invariant: bool = True


class Decoder(Struct, frozen=True, kw_only=True, tag="decoder"):
    """A language model.

    Our own graphs ("inplace") take ``input_ids`` i64[B,S], ``seqlens_k`` i32[B] (total length - 1 of each row),
    ``total_seq_len`` i32[] , ``logits_rows`` i64[R] (which of the S positions get logits) and
    ``past_key_values.{i}.key|value`` f32[B,KV,context,HD], and give ``logits`` f32[B,R,V] and
    ``present.{i}.key|value``, which are bound to the same memory as the past. A graph taken as it was ("growing") has
    the usual exporter's names (``input_ids, attention_mask, position_ids, past_key_values.*`` -> ``logits,
    present.*``) and a past that grows by concatenation; ``inputs`` names those it has besides the past.
    """

    layers: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    """Longest prompt plus answer in tokens: the length of the key-value memory."""
    eos: tuple[int, ...]
    bos: int | None = None
    add_bos: bool = False
    """Whether a completion prompt starts with ``bos`` (chat templates write their own)."""
    cache: Literal["inplace", "growing"] = "inplace"
    inputs: tuple[str, ...] = ("input_ids", "seqlens_k", "total_seq_len", "logits_rows")
    bos_text: str = ""
    eos_text: str = ""
    """The text of these tokens, as chat templates expect them in ``bos_token`` and ``eos_token``."""
    tools: ToolForm | None = None
    """How the template writes tool calls, found at build by rendering some; None when it knows no tools."""
    reasoning: Reasoning | None = None
    """The marks around what the model thinks, where its template has any."""
    sampling: dict[str, float] = {}
    """The model's own defaults (``temperature``, ``top_p``, ``top_k``) from generation_config.json."""


Card = Encoder | Reranker | Classifier | Decoder


def read(folder: Path) -> Card:
    """Parse ``folder/model.json``; raises msgspec.ValidationError when it is not valid."""
    card: Card = msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Card)
    return card


def write(folder: Path, card: Card) -> None:
    """Write ``folder/model.json``, canonically."""
    (folder / FILE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(card, order="sorted"), indent=2) + b"\n")
