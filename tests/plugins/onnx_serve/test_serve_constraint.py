"""Grammars over the tokens of different tokenizers: what the masks allow, decoded, is what the grammar says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

import lsbuild_plugins
from lsbuild_plugins.onnx.serve import grammar
from lsbuild_plugins.onnx.serve.constraint import Grammars
from lsbuild_plugins.onnx.serve.text import Vocabulary
from onnx_serve_models import byte_tokenizer

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "unit": {"enum": ["metre", " foot", "<|im_end|>", "日本"]},
        "x": {"type": "integer", "minimum": -5, "maximum": 5},
        "note": {"type": "string", "maxLength": 8},
    },
    "required": ["unit", "x", "note"],
    "additionalProperties": False,
}


def sentencepiece() -> Tokenizer:
    """Words that begin with a mark for the space, and a token for each byte that has no other: as Llama 2 and Gemma."""
    words = [
        *'{}[]":,-0123456789',
        "▁",
        "▁m",
        "etre",
        "un",
        "it",
        "▁foot",
        "no",
        "te",
        "x",
        '{"',
        '":',
        '"',
        "a",
        "b",
        "u",
        "n",
        "i",
        "t",
    ]
    words += ["e", "o", "m", "r", "f"]
    vocab = {"<unk>": 0, "</s>": 1, **{f"<0x{byte:02X}>": byte + 2 for byte in range(256)}}
    for word in words:
        vocab.setdefault(word, len(vocab))
    merges = [("u", "n"), ("i", "t"), ("n", "o"), ("t", "e"), ("{", '"'), ('"', ":"), ("▁", "m")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("</s>", special=True)])
    return tokenizer


def tiny_agent() -> Tokenizer:
    """Its words all begin with a space; a mark before one takes the space away."""
    folder = Path(lsbuild_plugins.__path__[0]) / "builtin" / "tiny-agent"
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def walk(vocabulary: Vocabulary, grammars: Grammars, size: int, text: str, seed: int) -> list[int]:
    """A random answer; white space and free text are kept short by their length in the schema."""
    chance, constraint, ids = random.Random(seed), grammars.open(text, "a"), []
    while not constraint.ended and len(ids) < 400:
        allowed = np.flatnonzero(~constraint.blocked(size)).tolist()
        ids.append(chance.choice(allowed))
        ids += constraint.take(ids[-1])
    return ids


@pytest.mark.parametrize(
    ("make", "eos"), [(byte_tokenizer, "<|im_end|>"), (sentencepiece, "</s>"), (tiny_agent, "<|im_end|>")]
)
def test_what_is_allowed_decodes_to_what_the_schema_says(make: Callable[[], Tokenizer], eos: str) -> None:
    tokenizer = make()
    size = tokenizer.get_vocab_size() + 5  # a model may have more rows than its tokenizer has tokens
    vocabulary, end = Vocabulary(tokenizer), tokenizer.token_to_id(eos)
    assert end is not None
    grammars = Grammars(vocabulary, size, (end,))
    text = grammar.write(grammar.Wanted(answer=SCHEMA), None, None, vocabulary.pieces)
    for seed in range(8):
        ids = walk(vocabulary, grammars, size, text, seed)
        assert not vocabulary.controls.intersection(ids) and max(ids) < tokenizer.get_vocab_size()
        jsonschema.validate(json.loads(vocabulary.text(ids)), SCHEMA)


@pytest.mark.parametrize(("make", "forces"), [(byte_tokenizer, True), (sentencepiece, True), (tiny_agent, False)])
def test_forced_tokens_are_those_the_tokenizer_would_write(make: Callable[[], Tokenizer], forces: bool) -> None:
    tokenizer = make()
    vocabulary = Vocabulary(tokenizer)
    assert bool(vocabulary.continued('{"unit": "metre"}')) == forces
    if forces:
        assert vocabulary.text(vocabulary.continued('"unit": 5')) == '"unit": 5'


def test_a_grammar_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary(byte_tokenizer())
    grammars = Grammars(vocabulary, 272, (262, 260))
    first = grammars.open('start: "ab"\n', "a")
    first.take(int(np.flatnonzero(~first.blocked(272))[0]))
    monkeypatch.setattr(Grammars, "_matcher", lambda *_: pytest.fail("compiled again"))
    second = grammars.open('start: "ab"\n', "a")
    assert not second.ended and not second.blocked(272).all()


def test_all_ends_of_a_text_are_allowed_where_one_is() -> None:
    vocabulary = Vocabulary(byte_tokenizer())
    constraint = Grammars(vocabulary, 272, (262, 260)).open('start: "a"?\n', "a")
    blocked = constraint.blocked(272)
    assert not blocked[262] and not blocked[260] and blocked[261]


def test_a_model_that_likes_white_space_gets_to_the_end() -> None:
    """What small models do where they may: line breaks for ever. ``blank`` are the tokens that this one takes first."""
    tokenizer = byte_tokenizer()
    vocabulary = Vocabulary(tokenizer)
    blank = [token for token in range(256) if vocabulary.raw(token) in (b"\n", b" ", b"\t")]
    assert len(blank) == 3
    text = grammar.write(grammar.Wanted(answer=SCHEMA), None, None, vocabulary.pieces)
    constraint, ids = Grammars(vocabulary, 272, (262, 260)).open(text, "a"), list[int]()
    while not constraint.ended and len(ids) < 400:
        blocked = constraint.blocked(272)
        ids.append(next((token for token in blank if not blocked[token]), int(np.flatnonzero(~blocked)[0])))
        ids += constraint.take(ids[-1])
    assert len(ids) < 400
    jsonschema.validate(json.loads(vocabulary.text(ids)), SCHEMA)
