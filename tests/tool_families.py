"""Chat templates of the families whose tool calls lsbuild reads, written for its tests after the forms the models use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent / "tool_templates"
_SILENT = ("granite-silent", "phi", "unknown")

TEMPLATES: Mapping[str, str] = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.jinja"))}
FAMILIES: Mapping[str, str] = {name: text for name, text in TEMPLATES.items() if name not in _SILENT}
"""Templates that write calls back."""
TAUGHT: Mapping[str, str] = {name: TEMPLATES[name] for name in _SILENT}
"""Templates that show their tools to the model and never write a call."""
