"""Makes the 135M random-weight checkpoint both engines are measured with; the same seed gives the same bytes.

Its shape is SmolLM2-135M's (config.json of the public model). Random weights say nothing about text, but a matrix
product takes as long as with trained ones.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "bfloat16",
}
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tensors(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every weight, as transformers names them; the head is tied to the embedding."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    narrow = config["num_key_value_heads"] * (hidden // config["num_attention_heads"])
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (hidden,)
        for part, rows in (("q", hidden), ("k", narrow), ("v", narrow), ("o", hidden)):
            yield f"{at}self_attn.{part}_proj.weight", (rows, hidden)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "mlp.gate_proj.weight", (ffn, hidden)
        yield at + "mlp.up_proj.weight", (ffn, hidden)
        yield at + "mlp.down_proj.weight", (hidden, ffn)
    yield "model.norm.weight", (hidden,)


def values(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.uint16]:
    """bfloat16 bits of one tensor: norms are near 1, the rest normal with deviation 0.04; depends on name and seed only."""
    random = np.random.Generator(np.random.PCG64((seed, zlib.crc32(name.encode()))))
    drawn = random.standard_normal(shape, np.float32) * np.float32(0.04)
    bits = (drawn + np.float32(1) if len(shape) == 1 else drawn).view(np.uint32)
    # Round to nearest even, as hardware does.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, config: dict[str, Any], seed: int) -> None:
    """One file in the safetensors format: u64 length, JSON header, tensors in the header's order."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in tensors(config):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors(config):
            stream.write(values(name, shape, seed).tobytes())


def vocabulary(size: int) -> list[str]:
    """``size`` distinct tokens: the special ones, the 256 byte characters of GPT-2, then made-up words."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_ins = [chr(256 + place) for place in range(256 - len(printable))]
    tokens = [*SPECIALS, *map(chr, printable), *stand_ins]
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ("Ġ" + "".join(word) for length in (2, 3, 4) for word in product(letters, repeat=length))
    return [*tokens, *(next(words) for _ in range(size - len(tokens)))][:size]


def write_tokenizer(folder: Path, size: int) -> None:
    """``tokenizer.json`` (byte-level BPE without merges) and ``tokenizer_config.json`` with a ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    known = {token: place for place, token in enumerate(vocabulary(size))}
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": SPECIALS[0], "eos_token": SPECIALS[0], "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_checkpoint(folder: Path, config: dict[str, Any], seed: int = 0) -> None:
    """A Hugging Face style folder: config.json, model.safetensors, tokenizer files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    write_tokenizer(folder, config["vocab_size"])
    write_safetensors(folder / "model.safetensors", config, seed)


def llm_135m(cache: Path) -> Path:
    """The folder of the benchmark's checkpoint below ``cache``, written once: 269 MB in bfloat16."""
    folder = cache / "llm-135m"
    if not (folder / "done").exists():
        write_checkpoint(folder, CONFIG)
        (folder / "done").write_text("")
    return folder


def prompt(length: int, number: int) -> list[int]:
    """Token ids of prompt ``number``: no special token, no prefix shared with another number."""
    random = np.random.Generator(np.random.PCG64((1, number)))
    ids: list[int] = random.integers(len(SPECIALS), CONFIG["vocab_size"], length).tolist()
    return ids
