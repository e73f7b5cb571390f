"""JSON Schema 2020-12 of the spec, for editors and for the docs; generated from the model, never written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from lsbuild.spec.model import Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SUBSTITUTION = {
    "type": "string",
    "pattern": r"\$\{(env|params)\.[^}]+\}",
    "description": "${env.NAME} or ${params.NAME}",
}
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key for the docs: ``models.NAME.quantize``, what it holds in words, its default in words, its meaning."""

    path: str
    kind: str
    default: str
    meaning: str


def schema(targets: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """The schema. ``targets`` adds the options of targets by name; without them any key is allowed below a target."""
    root, definitions = _tidied(Spec)
    root["patternProperties"] = {"^x-": {"description": "Ignored: a place for anchors and notes."}}
    below: dict[str, Any] = {}
    for name, options in sorted((targets or {}).items()):
        below[name], more = _tidied(options)
        definitions |= more
        below[name].pop("additionalProperties", None)  # any key of the spec may stand beside the target's own
    if below:
        root["properties"]["targets"] |= {"properties": below, "additionalProperties": False}
    return {"$schema": DIALECT, "title": "Distribution spec of lsbuild", **root, "$defs": definitions}


def keys() -> list[Key]:
    """Every key of the spec in the order of the model, for the reference in docs/spec.md."""
    root, definitions = _filled(Spec)
    return list(_listed(root, definitions, ""))


def table(section: str) -> str:
    """The keys of one top-level section as a Markdown table; docs/spec.md holds it word for word."""
    rows = [key for key in keys() if key.path == section or key.path.startswith(f"{section}.")]
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.path}` | {row.kind} | {row.default} | {row.meaning.replace('``', '`')} |" for row in rows]
    return "\n".join(lines)


def _filled(model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of ``model`` and its definitions, with what pydantic leaves out: repeated meanings, spelled defaults."""
    root = model.model_json_schema()
    definitions: dict[str, Any] = root.pop("$defs", {})
    for name, definition in (("", root), *definitions.items()):
        defaults = _models(model).get(name, model).model_construct().model_dump(mode="json", warnings=False)
        for key, value in definition.get("properties", {}).items():
            if "default" in value:
                value["default"] = defaults[key]
            if "$ref" in value:
                value.setdefault("description", definitions[value["$ref"].rpartition("/")[2]]["description"])
    return root, definitions


def _models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Every model that ``model`` is made of, by name."""
    found: dict[str, type[BaseModel]] = {}
    open_ = [model]
    while open_:
        for field in open_.pop().model_fields.values():
            for part in _parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel) and part.__name__ not in found:
                    found[part.__name__] = part
                    open_.append(part)
    return found


def _parts(annotation: Any) -> Iterator[Any]:
    """A type and all that it is written with."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _tidied(model: type[BaseModel]) -> tuple[dict[str, Any], dict[str, Any]]:
    root, definitions = _filled(model)
    for definition in (root, *definitions.values()):
        _tidy(definition)
    return root, definitions


def _listed(
    definition: Mapping[str, Any], definitions: Mapping[str, Any], above: str, within: tuple[str, ...] = ()
) -> Iterator[Key]:
    """The keys of a definition and all below, but for what is inside itself again."""
    for name, value in definition["properties"].items():
        path = f"{above}{name}"
        default = _spelled(value["default"]) if "default" in value else "required"
        yield Key(path, _words(value), default, " ".join(value["description"].split()))
        below, middle = _below(value)
        if below and below not in within:
            yield from _listed(definitions[below], definitions, f"{path}{middle}.", (*within, below))


def _below(value: Mapping[str, Any]) -> tuple[str, str]:
    """The definition a value is made of, and what stands between: ``.NAME`` for a map keyed by name, ``[]`` for a list."""
    for each in (value, *value.get("anyOf", ())):
        if "$ref" in each:
            return each["$ref"].rpartition("/")[2], ""
    inner: dict[str, Any] = next(iter(value.get("patternProperties", {}).values()), {})
    for entries, middle in ((inner, ".NAME"), (value.get("items", {}), "[]")):
        for entry in (entries, *entries.get("anyOf", ())):  # an entry may be a text as well
            if "$ref" in entry:
                return entry["$ref"].rpartition("/")[2], middle
    return "", ""


def _words(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return " \\| ".join(f"`{each}`" for each in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "anyOf" in value:
        kinds = [_words(each) for each in value["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if _below(value)[0]:
        entries = "list of texts and maps" if "anyOf" in value.get("items", {}) else "list of maps"
        return {".NAME": "map by name", "[]": entries}.get(_below(value)[1], "map")
    return {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "array": "list",
    }.get(str(value.get("type")), "map")


def _spelled(default: object) -> str:
    if default is None:
        return "-"
    if isinstance(default, str):
        return f"`{default}`" if default else "empty"
    if isinstance(default, list) and default:
        return f"`[{', '.join(map(str, default))}]`"
    return "empty" if default in ([], {}) or isinstance(default, dict) else f"`{default}`"


def _tidy(definition: dict[str, Any]) -> None:
    """Titles say nothing that the key does not; a value that is not a text may be written as a substitution."""
    definition.pop("title", None)
    for name, value in definition.get("properties", {}).items():
        value.pop("title", None)
        if "patternProperties" in value:
            value["additionalProperties"] = False
        if name == "version" or not _substitutable(value):
            continue
        description = value.pop("description", None)
        default = {"default": value.pop("default")} if "default" in value else {}
        kinds = value.get("anyOf", [value])
        meaning = {"description": description} if description else {}
        definition["properties"][name] = {**meaning, **default, "anyOf": [*kinds, dict(_SUBSTITUTION)]}


def _substitutable(value: Mapping[str, Any]) -> bool:
    return any(
        each.get("type") in {"integer", "number", "boolean"} or "enum" in each for each in value.get("anyOf", [value])
    )
