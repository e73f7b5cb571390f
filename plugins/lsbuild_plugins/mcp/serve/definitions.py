"""What an MCP server says of its tools, as it is pinned at build and compared at run time; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

MOST_TOOLS = 512
FILE_NAME = "definitions.json"
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


class Definition(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A tool of a server: what models see of it, or what a policy could go by. Other fields (icons, _meta) are not kept."""

    name: str
    title: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] = {}
    output_schema: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None

    @property
    def called(self) -> str:
        """The name by which models call it: OpenAI's pattern, at most 64 characters."""
        return _OTHER.sub("_", self.name)[:64]

    @property
    def described(self) -> str:
        """What models are told that it is for."""
        return self.description or self.title or self.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        return self.input_schema or {"type": "object", "properties": {}}


def written(definitions: Iterable[Definition]) -> bytes:
    """Canonical bytes: sorted by name and key, so that the same tools give the same hash."""
    ordered = sorted(definitions, key=lambda each: each.name)
    return msgspec.json.format(msgspec.json.encode(ordered, order="sorted"), indent=2) + b"\n"


def read(data: bytes) -> list[Definition]:
    """What ``written`` wrote."""
    return msgspec.json.decode(data, type=list[Definition])


def changes(pinned: Definition, now: Definition | None) -> list[str]:
    """What of a tool is not as it was pinned: names of its parts, or ``is gone``."""
    if now is None:
        return ["it is gone"]
    parts = (("title", "title"), ("description", "description"), ("input_schema", "schema"), ("output_schema", "output schema"),
             ("annotations", "annotations"))  # fmt: skip
    return [f"its {told}" for name, told in parts if _plain(getattr(pinned, name)) != _plain(getattr(now, name))]


def twice(definitions: Sequence[Definition]) -> str:
    """A name that two tools would be called by, or ""."""
    names = [each.called for each in definitions]
    return next((name for name in names if names.count(name) > 1), "")


def _plain(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")
