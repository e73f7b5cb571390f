"""The compile steps for a graph that exists already: copies it, writes its card, and runs it once to see that it works."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lsbuild.api import GateError, Json, SourceError, StepContext
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint
from lsbuild_plugins.onnx.compile.existing import Port, Taken, choose, take
from lsbuild_plugins.onnx.compile.linear import SCHEMES, Format
from lsbuild_plugins.onnx.compile.pooling import longest_input, read_pooling
from lsbuild_plugins.onnx.compile.template import ship_template
from lsbuild_plugins.onnx.compile.tokens import ship_tokenizer, specials
from lsbuild_plugins.onnx.serve import format as model_format

_ENCODER_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_DECODER_INPUTS = ("input_ids", "attention_mask", "position_ids")
PER_TENSOR = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
"""Operators that quantise a whole batch with one scale, so that a vector depends on its batch mates."""
_POOLED = ("sentence_embedding", "embedding", "embeddings")


@dataclass(frozen=True, slots=True)
class TextGraph:
    """A copied graph that reads token ids, and the longest input it may be given."""

    name: str
    taken: Taken
    ports: tuple[Port, ...]
    tokens: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it takes."""
        return tuple(port.name for port in self.ports)

    @property
    def mask(self) -> Literal["int32", "int64"]:
        """The dtype of its attention mask."""
        return "int32" if ("attention_mask", "int32") in {(port.name, port.dtype) for port in self.ports} else "int64"

    @property
    def facts(self) -> Mapping[str, Json]:
        """For the report."""
        return _repacked(self.taken)


def take_text_graph(checkpoint: Checkpoint, context: StepContext, form: Format | None) -> TextGraph:
    """Copy the graph; SourceError when it takes something else than token ids, their mask and types."""
    name = choose(checkpoint)
    taken = take(checkpoint, name, context.out, form)
    config = checkpoint.json("config.json")
    first = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in ("roberta", "xlm-roberta") else 0
    positions = int(config.get("max_position_embeddings") or 512) - first
    tokens = longest_input(checkpoint, positions, context.options.get("context"))
    return TextGraph(name, taken, _known(taken, _ENCODER_INPUTS, checkpoint, name), tokens)


def take_encoder(checkpoint: Checkpoint, context: StepContext, form: Format | None) -> dict[str, Json]:
    """A graph from token ids to hidden states or to vectors. Options as of ``step.encoder``."""
    graph = take_text_graph(checkpoint, context, form)
    name, taken, inputs, tokens = graph.name, graph.taken, graph.ports, graph.tokens
    tokenizer = ship_tokenizer(checkpoint, context.out)
    output = _vector_output(taken, checkpoint, name)
    ids = np.array([tokenizer.encode(gate.sentences()[0]).ids[:tokens]], np.int64)
    feeds = {port.name: np.full(ids.shape, 1, port.dtype) for port in inputs if port.name == "attention_mask"}
    feeds |= {port.name: np.zeros(ids.shape, port.dtype) for port in inputs if port.name == "token_type_ids"}
    feeds |= {port.name: ids.astype(port.dtype) for port in inputs if port.name == "input_ids"}
    found = gate.run(gate.open_graph(context.out / "model.onnx"), [output.name], feeds)
    if found.ndim not in (2, 3) or not np.isfinite(found).all():
        raise GateError(
            f"{name}: output {output.name} has shape {list(found.shape)} or is not finite",
            where=checkpoint.uri,
            hint="An embedding graph gives [batch, dimensions] or [batch, tokens, dimensions] in float32.",
        )
    pooling: Literal["graph", "mean", "cls"] = "graph"
    if found.ndim == 3:
        pooling = read_pooling(checkpoint, context.options.get("pooling")).pooling
    card = model_format.Encoder(
        dimensions=int(found.shape[-1]),
        max_tokens=tokens,
        inputs=graph.inputs,
        mask=graph.mask,
        output=output.name,
        pooling=pooling,
        batch_invariant=not taken.operators & PER_TENSOR,
    )
    model_format.write(context.out, card)
    return {
        "graph": name,
        "embedding_dimension": card.dimensions,
        "context_length": tokens,
        "pooling": pooling,
        **graph.facts,
    }


def take_decoder(checkpoint: Checkpoint, context: StepContext, form: Format | None) -> dict[str, Json]:
    """A graph with a past that grows by concatenation, as optimum exports it. Options as of ``step.decoder``."""
    name = choose(checkpoint)
    taken = take(checkpoint, name, context.out, form)
    past = [port for port in taken.inputs if re.fullmatch(r"past_key_values\.\d+\.(key|value)", port.name)]
    rest = Taken(tuple(port for port in taken.inputs if port not in past), taken.outputs)
    inputs = _known(rest, _DECODER_INPUTS, checkpoint, name)
    sizes = {(port.dtype, port.shape[1], port.shape[3]) for port in past if len(port.shape) == 4}
    if len(sizes) != 1 or next(iter(sizes))[0] != "float32" or 0 in next(iter(sizes)):
        raise checkpoint.fault(
            f"{name} has no usable past: {len(past)} past_key_values inputs of {len(sizes)} kinds",
            "Export it with a float32 past (optimum's task text-generation-with-past).",
        )
    _, heads, dim = next(iter(sizes))
    tokenizer = ship_tokenizer(checkpoint, context.out)
    tokens = specials(checkpoint, tokenizer)
    _, found = ship_template(checkpoint, tokens, tokenizer, context.out)
    positions = _positions(checkpoint, context.options.get("context"))
    vocab = _first_token(context, tokenizer.encode(gate.sentences()[0]).ids, inputs, past, checkpoint)
    card = model_format.Decoder(
        layers=len(past) // 2,
        kv_heads=heads,
        head_dim=dim,
        vocab=vocab,
        context=min(context.options.get("context") or 4096, positions),
        eos=tokens.eos,
        bos=tokens.bos,
        add_bos=tokens.add_bos,
        bos_text=tokens.bos_text,
        eos_text=tokens.eos_text,
        cache="growing",
        inputs=tuple(port.name for port in inputs),
        tools=found.tools,
        reasoning=found.reasoning,
    )
    model_format.write(context.out, card)
    return {
        "graph": name,
        "context_length": card.context,
        "chat": (context.out / "chat_template.jinja").is_file(),
        "sampling": card.sampling,
        "cache": "growing",
        "tool_format": found.how,
        "reasoning": found.reasoning is not None,
        **_repacked(taken),
    }


def _positions(checkpoint: Checkpoint, wished: int | None) -> int:
    """The longest sequence the model was made for; the spec's ``context`` where config.json does not say it."""
    config = checkpoint.json("config.json")
    named = [
        config.get(key) for key in ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
    ]
    known = next((value for value in named if isinstance(value, int) and value > 0), wished)
    if known is None:
        raise checkpoint.fault("config.json does not say how long a sequence may be", "Set context on the model.")
    return known


def _first_token(
    context: StepContext, ids: list[int], inputs: tuple[Port, ...], past: list[Port], checkpoint: Checkpoint
) -> int:
    """Run a sentence from an empty past; returns the size of the vocabulary that the logits have."""
    row = np.array([ids], np.int64)
    values = {"input_ids": row, "attention_mask": np.ones_like(row), "position_ids": np.arange(row.size)[None]}
    feeds: dict[str, Any] = {port.name: values[port.name].astype(port.dtype) for port in inputs}
    feeds |= {port.name: np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32) for port in past}
    logits = gate.run(gate.open_graph(context.out / "model.onnx"), ["logits"], feeds)
    gate.gate_decoder(logits, row, checkpoint.uri)
    return int(logits.shape[-1])


def leave_as_given(checkpoint: Checkpoint, context: StepContext) -> None:
    """A graph that was given is left as it is; asking for more is a SourceError."""
    if context.options.get("explicit") and context.options["quantize"] != "none":
        raise _cannot(
            checkpoint, context, "Leave quantize out, or give the safetensors checkpoint to have it quantised."
        )


def form_of_export(kind: str, checkpoint: Checkpoint, context: StepContext) -> Format:
    """How the products of an export are stored; SourceError for int8-fast, which only graphs of ours have."""
    form = SCHEMES[kind, str(context.options["quantize"])].body
    if form.dynamic:
        raise _cannot(checkpoint, context, "Use quantize: int8.")
    return form


def _cannot(checkpoint: Checkpoint, context: StepContext, hint: str) -> SourceError:
    quantize = context.options["quantize"]
    return checkpoint.fault(f"quantize: {quantize} cannot be applied to a graph that lsbuild did not emit", hint)


def _known(taken: Taken, names: tuple[str, ...], checkpoint: Checkpoint, graph: str) -> tuple[Port, ...]:
    unknown = [port.name for port in taken.inputs if port.name not in names or port.dtype not in ("int64", "int32")]
    if unknown or "input_ids" not in {port.name for port in taken.inputs}:
        raise checkpoint.fault(
            f"{graph} takes {', '.join(port.name for port in taken.inputs)}, not integers called {', '.join(names)}",
            "Export it with optimum, whose names these are.",
        )
    return taken.inputs


def _vector_output(taken: Taken, checkpoint: Checkpoint, graph: str) -> Port:
    usable = [port for port in taken.outputs if port.dtype == "float32"]
    pooled = [port for port in usable if port.name in _POOLED]
    hidden = [port for port in usable if port.name in ("last_hidden_state", "token_embeddings", "hidden_states")]
    found = pooled + hidden + (usable if len(usable) == 1 else [])
    if not found:
        raise checkpoint.fault(
            f"{graph} gives {', '.join(port.name for port in taken.outputs)}: none is known to be the embedding",
            f"Name the output {_POOLED[0]} (pooled) or last_hidden_state.",
        )
    return found[0]


def _repacked(taken: Taken) -> Mapping[str, Json]:
    return {"products_quantised": taken.repacked} if taken.repacked else {}
