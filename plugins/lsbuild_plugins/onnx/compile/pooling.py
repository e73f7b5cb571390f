"""Reads how a sentence-transformers model pools and how long its inputs may be; emits nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lsbuild_plugins.onnx.compile.bert import Pooling
from lsbuild_plugins.onnx.compile.checkpoint import Checkpoint

_HINT = "Set config: {pooling: mean} or {pooling: cls} on the model, if its card says that this is right."


@dataclass(frozen=True, slots=True)
class Pooled:
    """The pooling, and where it is known from: "spec", "modules.json" or "assumed"."""

    pooling: Pooling
    known_from: str


def read_pooling(checkpoint: Checkpoint, wished: str | None) -> Pooled:
    """The spec's wish, else the model's modules.json, else mean; SourceError for what the graph cannot do."""
    if wished is not None:
        return Pooled("cls" if wished == "cls" else "mean", "spec")
    modules = _modules(checkpoint)
    unknown = sorted(set(modules) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise checkpoint.fault(f"modules.json names {', '.join(unknown)}, which is not supported", _HINT)
    if "Pooling" not in modules:
        return Pooled("mean", "assumed")
    settings = checkpoint.json(f"{modules['Pooling']}/config.json")
    modes = {key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
             for key, value in settings.items() if key.startswith("pooling_mode_") and value is True}  # fmt: skip
    modes |= {str(settings["pooling_mode"])} if isinstance(settings.get("pooling_mode"), str) else set()
    if modes in ({"mean"}, {"cls"}):
        return Pooled("cls" if modes == {"cls"} else "mean", "modules.json")
    raise checkpoint.fault(f"pooling by {', '.join(sorted(modes)) or 'nothing'} is not supported", _HINT)


def longest_input(checkpoint: Checkpoint, positions: int, wished: int | None) -> int:
    """Tokens per input: the model's own limit, or the spec's ``context``; SourceError above the model's positions."""
    if wished is not None and wished > positions:
        raise checkpoint.fault(
            f"context {wished} is more than the {positions} positions the model was made for",
            f"Set context to at most {positions}.",
        )
    own = checkpoint.json("sentence_bert_config.json").get("max_seq_length")
    return wished or min(positions, own if isinstance(own, int) and own > 0 else positions)


def _modules(checkpoint: Checkpoint) -> dict[str, str]:
    """Type -> folder, from modules.json (a list of ``{"type": "sentence_transformers.models.Pooling", "path": ...}``)."""
    path = checkpoint.files.get("modules.json")
    if path is None:
        return {}
    try:
        entries: Any = json.loads(path.read_bytes())
        return {str(entry["type"]).rsplit(".", 1)[-1]: str(entry.get("path", "")) for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise checkpoint.fault("modules.json is not a list of modules", "Fetch the model again.") from error
