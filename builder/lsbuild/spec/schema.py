"""JSON Schema 2020-12 of the spec, for editors and for the docs; generated from the model, never written by hand."""

from __future__ import annotations

from typing import Any

from lsbuild.spec.model import Spec


def schema() -> dict[str, Any]:
    """The schema; descriptions are the model's docstrings."""
    return Spec.model_json_schema()
