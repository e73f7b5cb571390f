"""Random JSON schemas, from a seed: what an answer held to them has to survive; for tests and the benchmark."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
PATTERNS = (
    "^[a-z]{2,5}$",
    "^[A-Z][a-z]+( [A-Z][a-z]+)?$",
    r"^\d{3}-\d{4}$",
    "^(red|green|blue)+$",
    '^[^"\\\\]{1,8}$',
    "ab",
    "^x.*y$",
    "^[äöü]{1,3}$",
    r"^\w+@\w+\.(com|org)$",
    "^(a|b(c|d)*){1,4}$",
)
WORDS = (
    "a",
    "name",
    "Größe",
    "x y",
    'quo"te',
    "back\\slash",
    "line\nbreak",
    "",
    "0",
    "日本",
    "</tool_call>",
    "<|im_end|>",
)


def schemas(count: int, seed: int) -> list[Schema]:
    """``count`` schemas; some are hard, some have keywords that no grammar enforces or no value at all."""
    return [_Maker(random.Random(f"{seed}/{number}")).root() for number in range(count)]


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._definitions = 0

    def root(self) -> Schema:
        self._definitions = self._chance.choice((0, 0, 0, 1, 2))
        schema = self._object(0) if self._chance.random() < 0.7 else self._any(0)
        if self._definitions:
            schema["$defs"] = {f"d{n}": self._recursive(n) for n in range(self._definitions)}
        if self._chance.random() < 0.08:
            self._spoil(schema)
        if self._chance.random() < 0.3:
            schema["title"] = "T"
            schema["description"] = self._word()
        return schema

    def _any(self, depth: int) -> Schema:
        makers: list[Callable[[int], Schema]] = [
            self._string, self._string, self._number, self._integer, self._enum, self._const, self._plain,
        ]  # fmt: skip
        if depth < 3:
            makers += [self._object, self._object, self._array, self._array, self._either, self._all, self._ref]
        return self._chance.choice(makers)(depth)

    def _object(self, depth: int) -> Schema:
        names = self._chance.sample(WORDS + tuple(string.ascii_lowercase), self._chance.randint(0, 4))
        out: Schema = {"type": "object", "properties": {name: self._any(depth + 1) for name in names}}
        if names:
            out["required"] = self._chance.sample(names, self._chance.randint(0, len(names)))
        kind = self._chance.random()
        if kind < 0.6:
            out["additionalProperties"] = False
        elif kind < 0.75:
            out["additionalProperties"] = self._any(depth + 1)
        elif kind < 0.8:
            out["patternProperties"] = {"^p_[a-z]{1,3}$": self._integer(depth)}
        return out

    def _array(self, depth: int) -> Schema:
        out: Schema = {"type": "array", "items": self._any(depth + 1)}
        least = self._chance.randint(0, 2)
        if self._chance.random() < 0.5:
            out["minItems"] = least
        if self._chance.random() < 0.7:
            out["maxItems"] = least + self._chance.randint(0, 3)
        if self._chance.random() < 0.2:
            out["prefixItems"] = [self._any(depth + 1) for _ in range(self._chance.randint(1, 2))]
        return out

    def _string(self, _: int) -> Schema:
        out: Schema = {"type": "string"}
        kind = self._chance.random()
        if kind < 0.25:
            out["format"] = self._chance.choice(FORMATS)
        elif kind < 0.5:
            out["pattern"] = self._chance.choice(PATTERNS)
        elif kind < 0.85:
            least = self._chance.randint(0, 5)
            out |= {"minLength": least, "maxLength": least + self._chance.randint(0, 10)}
        return out

    def _number(self, _: int) -> Schema:
        out: Schema = {"type": "number"}
        low = self._chance.choice((-1000, -1.5, 0, 0.25, 3))
        if self._chance.random() < 0.6:
            out[self._chance.choice(("minimum", "exclusiveMinimum"))] = low
        if self._chance.random() < 0.6:
            out[self._chance.choice(("maximum", "exclusiveMaximum"))] = low + self._chance.choice((0.5, 2, 100))
        return out

    def _integer(self, _: int) -> Schema:
        out: Schema = {"type": "integer"}
        low = self._chance.randint(-50, 50)
        if self._chance.random() < 0.7:
            out[self._chance.choice(("minimum", "exclusiveMinimum"))] = low
        if self._chance.random() < 0.7:
            out[self._chance.choice(("maximum", "exclusiveMaximum"))] = low + self._chance.randint(2, 10**6)
        if self._chance.random() < 0.15:
            out["multipleOf"] = self._chance.choice((1, 2, 5, 10))
        return out

    def _enum(self, _: int) -> Schema:
        values: list[Any] = [*WORDS, 1, -2.5, True, None, [1, "a"], {"k": [None]}]
        return {"enum": self._chance.sample(values, self._chance.randint(1, 5))}

    def _const(self, _: int) -> Schema:
        return {"const": self._chance.choice([*WORDS, 0, False, None, {"a": 1, "b": "x"}])}

    def _plain(self, _: int) -> Schema:
        kinds = ["null", "boolean", "integer", "string"]
        return {"type": self._chance.choice([*kinds, self._chance.sample(kinds, 2)])}

    def _either(self, depth: int) -> Schema:
        return {"anyOf": [self._any(depth + 1) for _ in range(self._chance.randint(1, 3))]}

    def _all(self, depth: int) -> Schema:
        first, second = self._object(depth + 1), self._object(depth + 1)
        first.pop("additionalProperties", None)
        second.pop("additionalProperties", None)
        return {"allOf": [first, second]}

    def _ref(self, depth: int) -> Schema:
        if not self._definitions:
            return self._string(depth)
        return {"$ref": f"#/$defs/d{self._chance.randrange(self._definitions)}"}

    def _recursive(self, number: int) -> Schema:
        """A tree or a list of itself, or of the other definition."""
        again = {"$ref": f"#/$defs/d{self._chance.randrange(self._definitions)}"}
        if self._chance.random() < 0.5:
            return {
                "type": "object",
                "properties": {"value": self._string(3), "next": {"anyOf": [{"type": "null"}, again]}},
                "required": ["value", "next"] if self._chance.random() < 0.5 else ["value"],
                "additionalProperties": False,
            }
        return {"type": "array", "items": {"anyOf": [self._integer(3), again]}, "maxItems": 2 + number}

    def _spoil(self, schema: Schema) -> None:
        """Something that has to be refused."""
        schema |= self._chance.choice(
            (
                {"not": {"type": "null"}},
                {"if": {}, "then": {}},
                {"$ref": "https://example.invalid/schema.json"},
                {"$ref": "#/$defs/nowhere"},
                {"type": "strnig"},
                {"dependentRequired": {"a": ["b"]}},
                {"allOf": [{"type": "string"}, {"type": "integer"}]},
                {"pattern": "(a)\\1", "type": "string"},
                {"enum": []},
            )
        )

    def _word(self) -> str:
        return self._chance.choice(WORDS)
