"""Writes YAML that people read: block style, keys in the order given, the same value gives the same bytes."""

from __future__ import annotations

import io
from typing import Any


def documents(*values: Any, comment: str) -> bytes:
    """One file of the ``values``, each a document of its own, below ``comment`` (lines without their ``#``)."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in comment.splitlines())
    for number, value in enumerate(values):
        text.write("---\n" if number else "")
        yaml.dump(value, text)
    return text.getvalue().encode()
