"""Arithmetic that a model writes down, worked out with bounds: no name leads anywhere, and no number grows without end."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from lsbuild_runtime.tools import ToolResult

LONGEST = 1000
"""Characters of an expression."""
DEEPEST = 64
LARGEST = 4096
"""Bits of a whole number."""
DESCRIPTION = (
    "Works out an arithmetic expression, exactly for whole numbers. Knows + - * / // % ** and parentheses, the functions "
    "abs, round, floor, ceil, sqrt, exp, log, log2, log10, sin, cos, tan, asin, acos, atan, atan2, hypot, degrees, radians, "
    "factorial, gcd, lcm, comb, min, max, sum, mean, and pi, e, tau. Angles are in radians."
)
PARAMETERS = {
    "type": "object",
    "properties": {
        "expression": {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST,
            "description": "Such as (3 + 4) * 2 ** 3 / 7 or round(sqrt(2), 3).",
        }
    },
    "required": ["expression"],
    "additionalProperties": False,
}

Number = int | float
_SIGNS = {"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "√": "sqrt", "π": "pi"}
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
_TWO: Mapping[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ONE: Mapping[type[ast.unaryop], Callable[[Any], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class _Fault(Exception):
    """A sentence for the model."""


def run(arguments: Mapping[str, Any]) -> ToolResult:
    """The value of ``expression``; what cannot be worked out is a failed result that says why."""
    try:
        value = evaluate(str(arguments["expression"]))
    except _Fault as fault:
        return ToolResult(f"The expression cannot be worked out: {fault}.", failed=True)
    return ToolResult(shown(value), structured=value)


def evaluate(expression: str) -> Number:
    """The value; _Fault says what is wrong."""
    if len(expression) > LONGEST:
        raise _Fault(f"it has {len(expression)} characters, at most {LONGEST} are taken")
    for sign, meant in _SIGNS.items():
        expression = expression.replace(sign, meant)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _bounded(_value(tree.body, 0))
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise _Fault("it is not one arithmetic expression") from error
    except ZeroDivisionError as error:
        raise _Fault("it divides by zero") from error
    except OverflowError as error:
        raise _Fault("a number gets too large") from error
    except (ValueError, TypeError) as error:
        raise _Fault(str(error)[:200]) from error


def shown(value: Number) -> str:
    """Whole numbers in full, others to 15 digits, as a person writes them."""
    if isinstance(value, int):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else format(value, ".15g")


def _value(node: ast.expr, depth: int) -> Number:
    if depth > DEEPEST:
        raise _Fault(f"it is nested more than {DEEPEST} deep")
    match node:
        case ast.Constant(value=bool()):
            raise _Fault("True and False are no numbers")
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=inner) if type(sign) in _ONE:
            return _ONE[type(sign)](_value(inner, depth + 1))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _TWO:
            return _bounded(_TWO[type(sign)](_value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*_numbers(given, depth + 1)))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            raise _Fault(f"{name!r} is not known")
    raise _Fault(f"{ast.unparse(node)[:60]!r} is no arithmetic")


def _numbers(nodes: list[ast.expr], depth: int) -> list[Number]:
    """The arguments of a function; a list stands for its items."""
    found: list[Number] = []
    for node in nodes:
        found += _numbers(node.elts, depth + 1) if isinstance(node, ast.List | ast.Tuple) else [_value(node, depth)]
    return found


def _bounded(value: Number) -> Number:
    if isinstance(value, complex) or not isinstance(value, int | float):
        raise _Fault("the result is no real number")
    if isinstance(value, int) and value.bit_length() > LARGEST:
        raise _Fault(f"a number has more than {LARGEST} bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Fault("a number gets too large, or is none")
    return value


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent >= 0
    if whole and abs(base) > 1 and int(base).bit_length() * exponent > LARGEST:
        raise _Fault(f"a number has more than {LARGEST} bits")
    return _bounded(base**exponent)


def _whole(value: Number, most: int) -> int:
    if int(value) != value or not 0 <= value <= most:
        raise _Fault(f"{shown(value)} is not a whole number from 0 to {most}")
    return int(value)


def _round(value: Number, digits: Number = 0) -> Number:
    return round(value, int(digits)) if digits else round(value)


_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs,
    "round": _round,
    "floor": math.floor,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "ln": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "atan2": math.atan2,
    "hypot": math.hypot,
    "degrees": math.degrees,
    "radians": math.radians,
    "factorial": lambda value: math.factorial(_whole(value, 400)),
    "comb": lambda n, k: math.comb(_whole(n, LARGEST), _whole(k, LARGEST)),
    "gcd": lambda *values: math.gcd(*(_whole(abs(value), 1 << LARGEST) for value in values)),
    "lcm": lambda *values: math.lcm(*(_whole(abs(value), 1 << 64) for value in values)),
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "sum": lambda *values: sum(values),
    "mean": lambda *values: sum(values) / len(values),
}
