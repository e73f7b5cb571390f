"""Reads tokenizer files: makes the ``tokenizer.json`` that ships and finds the special tokens; builds no graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer, Tokenizer

from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Specials:
    """Special tokens of a language model: ids, and the texts that chat templates use."""

    bos: int | None
    add_bos: bool
    eos: tuple[int, ...]
    bos_text: str
    eos_text: str


def ship_tokenizer(checkpoint: Checkpoint, out: Path) -> Tokenizer:
    """Write ``tokenizer.json`` without its truncation and padding (requests decide these) and return the tokenizer."""
    path = checkpoint.files.get("tokenizer.json")
    text = _from_vocabulary(checkpoint).to_str() if path is None else path.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
        value["truncation"] = value["padding"] = None
        shipped = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        tokenizer = Tokenizer.from_str(shipped)
    except Exception as error:  # tokenizers raises Exception itself
        raise checkpoint.fault(f"tokenizer.json cannot be read: {error}", "Fetch the model again.") from error
    (out / "tokenizer.json").write_text(shipped, encoding="utf-8")
    return tokenizer


def _from_vocabulary(checkpoint: Checkpoint) -> Any:
    vocabulary = checkpoint.files.get("vocab.txt")
    if vocabulary is None:
        found = [name for name in ("tokenizer.model", "vocab.json", "spiece.model") if name in checkpoint.files]
        raise checkpoint.fault(
            f"tokenizer.json is missing (found {', '.join(found) or 'no other vocabulary'})",
            "Write one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    lower = bool(checkpoint.json("tokenizer_config.json").get("do_lower_case", True))
    return BertWordPieceTokenizer(str(vocabulary), lowercase=lower)


def specials(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Specials:
    """Start and end tokens, from every file that may name them.

    All ends count: a chat model's ``<|im_end|>`` and its base model's ``<|endoftext|>`` both end an answer.
    """
    settings = checkpoint.json("tokenizer_config.json")
    extra = checkpoint.json("special_tokens_map.json")
    bos_text = _text(settings.get("bos_token") or extra.get("bos_token"))
    eos_text = _text(settings.get("eos_token") or extra.get("eos_token"))
    ends = [checkpoint.json(name).get("eos_token_id") for name in ("generation_config.json", "config.json")]
    ids = {n for end in ends for n in (end if isinstance(end, list) else [end]) if isinstance(n, int)}
    named = tokenizer.token_to_id(eos_text) if eos_text else None
    ids |= {named} if named is not None else set()
    if not ids:
        raise checkpoint.fault(
            "no end-of-text token is named in generation_config.json, config.json or tokenizer_config.json",
            "Add eos_token_id to config.json: without it no answer would ever end.",
        )
    bos = tokenizer.token_to_id(bos_text) if bos_text else None
    return Specials(bos, bos is not None and _starts_with(tokenizer, bos), tuple(sorted(ids)), bos_text, eos_text)


def _text(token: object) -> str:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _starts_with(tokenizer: Tokenizer, bos: int) -> bool:
    ids: list[int] = tokenizer.encode("a").ids
    return ids[:1] == [bos]
