"""The compile steps themselves: a checkpoint in, a model folder and its measured facts out; each reads top to bottom."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from lsbuild.api import Json, SourceError, StepContext
from lsbuild_plugins.onnx.compile import gate
from lsbuild_plugins.onnx.compile.bert import Pooling, emit_encoder
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint, open_checkpoint
from lsbuild_plugins.onnx.compile.decoder import emit_decoder
from lsbuild_plugins.onnx.compile.encoders import ENCODERS, EncoderShape, read_encoder
from lsbuild_plugins.onnx.compile.export import COST, exported
from lsbuild_plugins.onnx.compile.families import FAMILIES, Shape, read_shape
from lsbuild_plugins.onnx.compile.fit import fitted
from lsbuild_plugins.onnx.compile.linear import SCHEMES, scheme_for
from lsbuild_plugins.onnx.compile.pooling import longest_input, read_pooling
from lsbuild_plugins.onnx.compile.safetensors import Weights
from lsbuild_plugins.onnx.compile.taken import form_of_export, leave_as_given, take_decoder, take_encoder
from lsbuild_plugins.onnx.compile.template import ship_template
from lsbuild_plugins.onnx.compile.tokens import ship_tokenizer, specials
from lsbuild_plugins.onnx.serve import format as model_format

Facts = dict[str, Json]

_TWIN_LIMIT = 400_000_000
"""Bytes of float32 weights up to which a decoder is measured against its float32 twin."""


@fitted
def encoder(context: StepContext) -> Facts:
    """Compile an embedding model. Options: quantize, context, pooling, export."""
    checkpoint = open_checkpoint(context.sources["weights"])
    if not checkpoint.has_weights():
        leave_as_given(checkpoint, context)
        return take_encoder(checkpoint, context, None)
    config = checkpoint.config()
    if str(config.get("model_type")) not in ENCODERS:
        allow_export(checkpoint, config, context, ENCODERS, "llm" if config.get("model_type") in FAMILIES else "")
        with exported(checkpoint, "feature-extraction", context) as found:
            return take_encoder(found, context, form_of_export("embedding", checkpoint, context))
    shape = read_encoder(config, checkpoint.uri)
    pooled = read_pooling(checkpoint, context.options.get("pooling"))
    tokens = longest_input(checkpoint, shape.positions, context.options.get("context"))
    quantize = str(context.options["quantize"])
    tokenizer = ship_tokenizer(checkpoint, context.out)
    weights = checkpoint.weights()
    emit_encoder(weights, shape, SCHEMES["embedding", quantize], pooled.pooling, tokens, context.out, context.progress)
    card = model_format.Encoder(
        dimensions=shape.hidden, max_tokens=tokens, batch_invariant=not SCHEMES["embedding", quantize].body.dynamic
    )
    model_format.write(context.out, card)
    closeness = _encoder_twin(weights, shape, pooled.pooling, tokens, tokenizer, context.out)
    return {
        "architecture": config["model_type"],
        "parameters": weights.parameters,
        "quantize": quantize,
        "embedding_dimension": shape.hidden,
        "context_length": tokens,
        "pooling": f"{pooled.pooling} ({pooled.known_from})",
        **gate.gate_encoder(closeness, quantize, checkpoint.uri),
    }


def _encoder_twin(
    weights: Weights, shape: EncoderShape, pooling: Pooling, tokens: int, tokenizer: Tokenizer, out: Path
) -> gate.Closeness:
    """Compare with a float32 graph of the same weights, which is thrown away."""
    texts = gate.sentences()
    found = gate.vectors(out / "model.onnx", tokenizer, texts, tokens)
    with tempfile.TemporaryDirectory(prefix="lsbuild-") as folder:
        twin = Path(folder)
        emit_encoder(weights, shape, SCHEMES["embedding", "none"], pooling, tokens, twin, quiet)
        return gate.compare(found, gate.vectors(twin / "model.onnx", tokenizer, texts, tokens))


@fitted
def decoder(context: StepContext) -> Facts:
    """Compile a language model. Options: quantize, context, export."""
    checkpoint = open_checkpoint(context.sources["weights"])
    if not checkpoint.has_weights():
        leave_as_given(checkpoint, context)
        return take_decoder(checkpoint, context, None)
    config = checkpoint.config()
    if str(config.get("model_type")) not in FAMILIES:
        allow_export(checkpoint, config, context, FAMILIES, "embedding" if config.get("model_type") in ENCODERS else "")
        with exported(checkpoint, "text-generation-with-past", context) as found:
            return take_decoder(found, context, form_of_export("llm", checkpoint, context))
    shape = read_shape(config, checkpoint.uri)
    length = _context_length(shape, context.options.get("context"), checkpoint)
    quantize = str(context.options["quantize"])
    tokenizer = ship_tokenizer(checkpoint, context.out)
    tokens = specials(checkpoint, tokenizer)
    chat, forms = ship_template(checkpoint, tokens, tokenizer, context.out)
    weights = checkpoint.weights()
    emit_decoder(weights, shape, scheme_for(weights.parameters, quantize), length, context.out, context.progress)
    card = model_format.Decoder(
        layers=len(shape.layers),
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
        context=length,
        eos=tokens.eos,
        bos=tokens.bos,
        add_bos=tokens.add_bos,
        bos_text=tokens.bos_text,
        eos_text=tokens.eos_text,
        tools=forms.tools,
        reasoning=forms.reasoning,
        sampling=_sampling(checkpoint),
    )
    model_format.write(context.out, card)
    return {
        "architecture": config["model_type"],
        "parameters": weights.parameters,
        "quantize": quantize,
        "context_length": length,
        "kv_bytes_per_token": 8 * len(shape.layers) * shape.kv_heads * shape.head_dim,
        "chat": (context.out / "chat_template.jinja").is_file(),
        "chat_template": chat,
        "tool_format": forms.how,
        "reasoning": forms.reasoning is not None,
        "sampling": card.sampling,
        **_measure_decoder(weights, shape, quantize, length, tokenizer, checkpoint, context.out),
    }


def _measure_decoder(
    weights: Weights, shape: Shape, quantize: str, length: int, tokenizer: Tokenizer, checkpoint: Checkpoint, out: Path
) -> Mapping[str, Json]:
    """Run the graph once; small models also run beside a float32 graph of the same weights, which is thrown away."""
    small = 4 * weights.parameters <= _TWIN_LIMIT and quantize != "none"
    count, longest = (8, 64) if small else (1, 24)
    ids = gate.sequences(tokenizer, shape.vocab, count, min(longest, length))
    memory = (shape.kv_heads, shape.head_dim)
    found = gate.logits(gate.open_graph(out / "model.onnx"), ids, len(shape.layers), memory)
    facts = gate.gate_decoder(found, ids, checkpoint.uri)
    if not small:
        return facts
    with tempfile.TemporaryDirectory(prefix="lsbuild-") as folder:
        twin = Path(folder)
        emit_decoder(weights, shape, scheme_for(weights.parameters, "none"), ids.shape[1], twin, quiet)
        reference = gate.logits(gate.open_graph(twin / "model.onnx"), ids, len(shape.layers), memory)
    return {**facts, **gate.gate_decoder_pair(found, reference, quantize, checkpoint.uri)}


def _context_length(shape: Shape, wished: int | None, checkpoint: Checkpoint) -> int:
    if wished is not None and wished > shape.positions:
        raise checkpoint.fault(
            f"context {wished} is more than the {shape.positions} positions the model was made for",
            f"Set context to at most {shape.positions}.",
        )
    return wished or min(shape.positions, 4096)


def _sampling(checkpoint: Checkpoint) -> dict[str, float]:
    """The model's own defaults; one that says ``do_sample: false`` wants the likeliest token."""
    settings = checkpoint.json("generation_config.json")
    if settings.get("do_sample") is False:
        return {"temperature": 0.0}
    found = {key: settings.get(key) for key in ("temperature", "top_p", "top_k")}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def allow_export(
    checkpoint: Checkpoint, config: Mapping[str, Json], context: StepContext, known: Mapping[str, object], other: str
) -> None:
    """SourceError with the way out, unless the spec allows the export of an architecture that is not emitted.

    Args:
        other: the type of model that would emit it, or "".
    """
    if not context.options.get("export"):
        name = str(config.get("model_type") or (config.get("architectures") or ["unknown"])[0])
        raise SourceError(
            f"the architecture {name!r} is not one that lsbuild emits itself ({', '.join(sorted(known))})",
            where=checkpoint.uri,
            hint=f"Set type: {other} on the model."
            if other
            else "Set config: {export: true} on the model: lsbuild then exports it with optimum-onnx and torch in an "
            f"environment of its own ({COST}). The result is larger and slower than what lsbuild emits.",
        )


def quiet(done: int, total: int, label: str) -> None:
    """A twin's progress is not shown."""
