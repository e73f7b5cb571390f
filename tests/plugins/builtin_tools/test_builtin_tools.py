"""The calculator and the clock: what they give, and that nothing a model writes makes them run long or lead anywhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Given, Item
from lsbuild.spec.model import Tool
from lsbuild_plugins.tools.plugin import PLUGIN
from lsbuild_plugins.tools.serve import OneTool, calculator, open_calculator, open_time
from lsbuild_plugins.tools.serve.clock import Clock
from lsbuild_runtime.http import ApiError, Context


def opened(name: str = "calc", **spec: Any) -> OneTool:
    item = Item("tools", name, "inline::tools", Tool(**spec), Path())
    assert list(PLUGIN.check(item)) == []
    (service,) = PLUGIN.compile(item, Given({})).services
    entry = open_calculator if service.entry.endswith("open_calculator") else open_time
    return entry(service, Path(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("1+1", "2"),
        ("(3 + 4) * 2 ** 3 / 7", "8"),
        ("2^10", "1024"),
        ("2^3+1", "9"),
        ("0.1 + 0.2", "0.3"),
        ("7 // 2 + 7 % 4", "6"),
        ("-3 × 4 ÷ 2 − 1", "-7"),
        ("sqrt(2)", "1.4142135623731"),
        ("round(2.5675, 2)", "2.57"),
        ("2 * π", format(2 * math.pi, ".15g")),
        ("factorial(20)", "2432902008176640000"),
        ("max(1, 2, 3) + min([4, 5]) + mean(1, 2)", "8.5"),
        ("1e300 * 1e5", "1e+305"),
        ("12345678901234567890 * 10", "123456789012345678900"),
        ("gcd(12, 18) + lcm(4, 6) + comb(5, 2)", "28"),
    ],
)  # fmt: skip
def test_arithmetic(expression: str, shown: str) -> None:
    result = calculator.run({"expression": expression})
    assert not result.failed, result.text
    assert result.text.startswith(shown) if shown.startswith("1.41") else result.text == shown


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("9**9**9", "bits"),
        ("2**(10**9)", "bits"),
        ("(2**4000)*(2**4000)", "bits"),
        ("10.0**400", "too large"),
        ("1e308*10", "too large"),
        ("factorial(10**9)", "whole number from 0 to 400"),
        ("comb(10**9, 5)", "whole number"),
        ("9" * 1001, "1001 characters"),
        ("9" * 990 + "**9", "bits"),
        ("(" * 300 + "1" + ")" * 300, "not one arithmetic expression"),
        ("-" * 500 + "1", "nested"),
        ("1/0", "divides by zero"),
        ("sqrt(-1)", "math domain error"),
        ("(-8)**0.5", "no real number"),
        ("1 +", "not one arithmetic expression"),
        ("1; 2", "not one arithmetic expression"),
        ("x = 1", "not one arithmetic expression"),
        ("__import__('os')", "'__import__' is not known"),
        ("().__class__.__bases__", "no arithmetic"),
        ("open('/etc/passwd')", "'open' is not known"),
        ("[1 for _ in range(10)]", "no arithmetic"),
        ("lambda: 1", "no arithmetic"),
        ("'a' * 10", "no arithmetic"),
        ("True + 1", "True and False"),
        ("round(1.5, 2, 3)", "argument"),
        ("abs(*[1])", "no arithmetic"),
        ("log(10, base=2)", "'log' is not known"),
        ("f'{1}'", "no arithmetic"),
        ("1j", "no arithmetic"),
        ("min()", "empty"),
        ("", "not one arithmetic expression"),
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_or_too_much_of_it_is_told(expression: str, says: str) -> None:
    result = calculator.run({"expression": expression})
    assert result.failed and says in result.text, result.text


def test_they_are_called_by_their_name_in_the_spec() -> None:
    tool = opened("sums", builtin="calculator", description="Sums.", approval="always", trusted=True)
    (info,) = tool.tools(Context())
    assert (info.name, info.description, info.sends, info.trusted, info.approval) == (
        "sums",
        "Sums.",
        "nothing",
        True,
        True,
    )
    assert opened(builtin="calculator").tools(Context())[0].trusted
    assert not opened(builtin="calculator", trusted=False).tools(Context())[0].trusted
    assert tool.call("sums", {"expression": "2*3"}, Context()).structured == 6
    with pytest.raises(ApiError, match="no tool 'calculator'"):
        tool.call("calculator", {"expression": "1"}, Context())


def test_the_clock_knows_zones() -> None:
    clock = Clock("Europe/Berlin", lambda: 1_795_846_200.0)
    assert clock.run({}).text == "2026-11-28T07:10:00+01:00, Saturday (Europe/Berlin)"
    assert clock.run({"timezone": "Asia/Kolkata"}).text == "2026-11-28T11:40:00+05:30, Saturday (Asia/Kolkata)"
    assert clock.run({}).structured["unix"] == 1_795_846_200
    for wrong in ("Mars/Base", "../../etc/passwd", "/etc/passwd", "Europe", "x\0y"):
        result = clock.run({"timezone": wrong})
        assert result.failed and "no time zone" in result.text
    assert (
        "Europe/Paris"
        in opened("now", builtin="time", config={"timezone": "Europe/Paris"}).tools(Context())[0].description
    )
    with pytest.raises(ApiError, match="no time zone"):
        Clock("Mars/Base")


@pytest.mark.parametrize(
    ("name", "spec", "says"),
    [
        ("a.b", {"builtin": "time"}, "other signs"),
        ("calc", {"builtin": "calculator", "config": {"timezone": "UTC"}}, "Extra inputs"),
        ("now", {"builtin": "time", "config": {"timezone": "Mars/Base"}}, "is no time zone"),
        ("now", {"builtin": "time", "allow": ["now"]}, "not a group"),
        ("x", {"provider": "inline::tools"}, "needs 'builtin'"),
    ],
)
def test_faults_of_the_spec(name: str, spec: dict[str, Any], says: str) -> None:
    (fault,) = PLUGIN.check(Item("tools", name, "inline::tools", Tool(**spec), Path()))
    assert says in fault.message
