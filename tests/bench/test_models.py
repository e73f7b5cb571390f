"""The random checkpoint: the same bytes every time, in the safetensors format, with a tokenizer that fits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from bench.models import CONFIG, SPECIALS, prompt, tensors, vocabulary, write_checkpoint
from tokenizers import Tokenizer

TINY: dict[str, Any] = {
    **CONFIG,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 512,
}


def test_the_real_shape_has_135_million_weights() -> None:
    assert sum(int(np.prod(shape)) for _, shape in tensors(CONFIG)) == 134_515_008


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_checkpoint(tmp_path / name, TINY, seed)
        digests.append(hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_lsbuild_reads_what_was_written(tmp_path: Path) -> None:
    from lsbuild_plugins.onnx.compile.safetensors import open_weights

    write_checkpoint(tmp_path, TINY)
    weights = open_weights({"model.safetensors": tmp_path / "model.safetensors"})
    for name, shape in tensors(TINY):
        assert weights.get(name).shape == shape
    norm = weights.get("model.norm.weight").array()
    assert abs(float(norm.mean()) - 1) < 0.05
    drawn = weights.get("model.embed_tokens.weight").array()
    assert abs(float(drawn.std()) - 0.04) < 0.002


def test_the_vocabulary_is_full_and_decodes(tmp_path: Path) -> None:
    assert len(set(vocabulary(49152))) == 49152
    write_checkpoint(tmp_path, TINY)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 512
    text = "Oil at 40 °C, {ok}"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert [tokenizer.token_to_id(token) for token in SPECIALS] == [0, 1, 2]
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 512


def test_prompts_share_no_beginning_and_hold_no_special_token() -> None:
    prompts = [prompt(128, number) for number in range(20)]
    assert prompt(128, 3) == prompts[3]
    assert len({each[0] for each in prompts}) == 20
    assert all(len(SPECIALS) <= token < CONFIG["vocab_size"] for each in prompts for token in each)
