"""Reads what both kinds of model have in their folder: the card and the tokenizer; opens no graph."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.tokenizer import Tokenizer
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.manifest import Service


def read_folder(service: Service, folder: Path) -> tuple[model_format.Card, Tokenizer]:
    """The card and the tokenizer, which neither cuts nor pads; ApiError 503 naming the file that is missing or damaged."""
    try:
        card = model_format.read(folder)
    except (OSError, msgspec.MsgspecError) as error:
        raise unavailable(service.name, f"model.json cannot be read ({error}); build the artifact again") from error
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises Exception itself
        raise unavailable(service.name, f"tokenizer.json cannot be read ({error}); build the artifact again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return card, tokenizer
