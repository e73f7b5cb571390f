"""Schemas that were checked when the artifact was built, by the digest of what a request sends; it checks none itself.

The compile half writes JSON files below ``grammars/MODEL``: each maps digests to schemas in plain form. At run time such a schema
needs no check, only its matcher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lsbuild_plugins.onnx.serve.schema import Schema

FOLDER = "grammars"
Known = Mapping[str, Schema | bool]


def digest(schema: Any) -> str:
    """The name of a schema: of its JSON with sorted keys, so that the order in which a client writes them is no matter."""
    return hashlib.sha256(msgspec.json.encode(schema, order="sorted")).hexdigest()


def read(root: Path, model: str) -> Known:
    """All schemas that were compiled for ``model``; raises OSError or MsgspecError for a damaged file."""
    out: dict[str, Schema | bool] = {}
    for path in sorted((root / FOLDER / model).rglob("*.json")):
        out.update(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
    return out
