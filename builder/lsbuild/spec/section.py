"""What all sections of a spec have in common; it knows none of them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler


class Section(BaseModel):
    """Base of every part of the spec: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=False)


class OrText:
    """Tells the JSON Schema what the validator of ``Documents`` takes besides a map."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


T = TypeVar("T", bound=Any)


def with_route(entry: T) -> T:
    """An entry with a ``route`` is provided by inline::route unless it says otherwise, which is an error."""
    if entry.route and "provider" in entry.model_fields_set and entry.provider != "inline::route":
        raise ValueError(f"{entry.provider} takes no route; leave the provider out, or the route")
    if entry.route and "provider" not in entry.model_fields_set:
        # The one default that depends on another key; a validator before the fields would make them lax lists.
        object.__setattr__(entry, "provider", "inline::route")
    return entry
