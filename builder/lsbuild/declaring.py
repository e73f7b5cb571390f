"""What providers have in common when they declare their services: wheels, names that are known elsewhere, secrets; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lsbuild.api import Item, Json, Problem
from lsbuild.spec.secret import Secret
from lsbuild.spec.tools import Tool

JSON_SCHEMA = "jsonschema>=4.23"
"""The wheel that the arguments of calls are checked with."""
RE2 = "google-re2>=1.1.20251105"
"""The wheel of patterns that take no longer the longer a text is: for those that somebody else wrote."""
HTTP = "urllib3>=2.5"
"""The wheel that asks other servers."""
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of an HTTP header (RFC 9110, a token)."""
_TOOL = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def one_tool(item: Item, spec: Tool) -> Iterator[Problem]:
    """What stands against ``item`` as one tool, which is called by the name that it has in the spec."""
    if not _TOOL.fullmatch(item.name):
        yield Problem((), f"models call the tool by its name, and '{item.name}' has other signs than a-z 0-9 _ -")
    if spec.allow:
        yield Problem(("allow",), "it is one tool, not a group")


def terms(spec: Tool, *, sends: str, trusted: bool = False) -> Mapping[str, Json]:
    """What the policy of a run goes by, as metadata of the service; ``sends`` and ``trusted`` where the spec says nothing."""
    vouched = spec.trusted if "trusted" in spec.model_fields_set else trusted
    return {"sends": spec.sends or sends, "trusted": vouched, "approval": spec.approval}


def by_name(value: str | Secret) -> Json:
    """A setting as the runtime gets it: a secret is named, its value never known here."""
    return {"secret": value.secret} if isinstance(value, Secret) else value
