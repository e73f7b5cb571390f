"""Tiny models with random weights as the compile half emits them, with tokenizers and cards, for tests of the serve half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import onnx
from onnx import TensorProto, helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from lsbuild_plugins.onnx.compile.bert import emit_encoder
from lsbuild_plugins.onnx.compile.decoder import emit_decoder
from lsbuild_plugins.onnx.compile.encoders import read_encoder
from lsbuild_plugins.onnx.compile.families import read_shape
from lsbuild_plugins.onnx.compile.linear import SCHEMES
from lsbuild_plugins.onnx.compile.safetensors import open_weights
from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.forms import HERMES
from lsbuild_runtime.manifest import Service
from onnx_compile_models import decoder_tensors, encoder_tensors, write_safetensors

CONTEXT = 128
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if tools %}tools={{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DECODER = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 272,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_theta": 10000.0,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 64,
    "type_vocab_size": 2,
    "max_position_embeddings": 32,
}


class NoHost:
    """A host without services."""

    def get(self, api: str, name: str) -> Any:
        raise AssertionError(f"nothing asks for {api}/{name}")


def service(name: str, **config: Any) -> Service:
    return Service(
        api="inference", name=name, provider="inline::onnx", entry="", path="", config={"threads": 1, **config}
    )


def byte_tokenizer() -> Tokenizer:
    """All bytes, a few merges, five special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: place for place, char in enumerate(alphabet)}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "w")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIALS])
    return tokenizer


def token(tokenizer: Tokenizer, text: str) -> int:
    """The id of a token that exists."""
    found = tokenizer.token_to_id(text)
    assert found is not None
    return found


def word_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer of 60 words that adds [CLS] and [SEP]."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(60))]
    tokenizer = Tokenizer(models.WordPiece(vocab={word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    return tokenizer


def _quiet(done: int, total: int, label: str) -> None: ...


def write_decoder(folder: Path, quantize: str = "none", context: int = CONTEXT) -> Path:
    folder.mkdir()
    weights = folder / "model.safetensors"
    write_safetensors(weights, decoder_tensors(DECODER, spread=0.4))
    emit_decoder(
        open_weights({weights.name: weights}),
        read_shape(DECODER | {"max_position_embeddings": max(256, context)}, "test"),
        SCHEMES["llm", quantize],
        context,
        folder,
        _quiet,
    )
    tokenizer = byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML)
    ends = tuple(token(tokenizer, text) for text in SPECIALS[:3:2])
    card = model_format.Decoder(
        layers=2,
        kv_heads=2,
        head_dim=16,
        vocab=272,
        context=context,
        eos=ends,
        eos_text="<|im_end|>",
        tools=HERMES,
    )
    model_format.write(folder, card)
    return folder


def make_growing(source: Path, folder: Path) -> Path:
    """The same model with an exporter's interface: attention_mask in, logits of all rows out, a past that grows."""
    folder.mkdir()
    graph = onnx.load(source / "model.onnx")
    kept = [value for value in graph.graph.input if value.name not in ("seqlens_k", "total_seq_len", "logits_rows")]
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"])
    del graph.graph.input[:]
    graph.graph.input.extend([*kept, mask])
    zero, one = (helper.make_tensor(name, TensorProto.INT64, [], [n]) for name, n in (("t0", 0), ("t1", 1)))
    axis = helper.make_tensor("axis1", TensorProto.INT64, [1], [1])
    graph.graph.initializer.extend([zero, one, axis])
    nodes = [
        helper.make_node("ReduceSum", ["attention_mask", "axis1"], ["mask_sum"], keepdims=0),
        helper.make_node("Sub", ["mask_sum", "t1"], ["last"]),
        helper.make_node("Cast", ["last"], ["seqlens_k"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["mask_shape"]),
        helper.make_node("Gather", ["mask_shape", "t1"], ["total64"]),
        helper.make_node("Cast", ["total64"], ["total_seq_len"], to=TensorProto.INT32),
        helper.make_node("Shape", ["input_ids"], ["ids_shape"]),
        helper.make_node("Gather", ["ids_shape", "t1"], ["length"]),
        helper.make_node("Range", ["t0", "length", "t1"], ["logits_rows"]),
    ]
    body = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *body])
    onnx.save(graph, folder / "model.onnx")
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    card = model_format.read(source)
    assert isinstance(card, model_format.Decoder)
    inputs = ("input_ids", "attention_mask")
    model_format.write(folder, msgspec.structs.replace(card, cache="growing", inputs=inputs))
    return folder


def write_encoder(folder: Path, quantize: str = "none", *, batch_invariant: bool = True) -> Path:
    folder.mkdir()
    weights = folder / "model.safetensors"
    write_safetensors(weights, encoder_tensors(BERT))
    emit_encoder(
        open_weights({weights.name: weights}),
        read_encoder(BERT, "test"),
        SCHEMES["embedding", quantize],
        "mean",
        32,
        folder,
        _quiet,
    )
    word_tokenizer().save(str(folder / "tokenizer.json"))
    model_format.write(folder, model_format.Encoder(dimensions=32, max_tokens=32, batch_invariant=batch_invariant))
    return folder
