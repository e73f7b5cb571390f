"""The step of a Python tool: the file as it is, and its definitions beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lsbuild.api import Json, StepContext


def run(context: StepContext) -> Mapping[str, Json]:
    """Write ``tool.py`` and ``tools.json`` (a list of name, description, parameters)."""
    (file,) = context.sources["file"].files
    (context.out / "tool.py").write_bytes(file.location.read_bytes())
    tools = context.options["tools"]
    (context.out / "tools.json").write_text(json.dumps(tools, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"tools": ", ".join(each["name"] for each in tools)}
