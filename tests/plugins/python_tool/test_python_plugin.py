"""`inline::python` for the builder: what it declares of a file, and the faults of an entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lsbuild.api import Apart, Given, Item, Source, SourceError, SourceFile
from lsbuild.spec.model import Tool
from lsbuild_plugins.python_tool.plugin import PLUGIN

TEXT = '''# /// script
# dependencies = ["humanize>=4"]
# ///
def a(x: int) -> int:
    """A."""
    return x

def b() -> None:
    """B."""
'''


def item(**spec: Any) -> Item:
    return Item("tools", "pump", "inline::python", Tool.model_validate({"python": "tools/pump.py", **spec}), Path())


def given(folder: Path, data: bytes) -> Given:
    place = folder / "pump.py"
    place.write_bytes(data)
    return Given({"file": Source("tools/pump.py", (SourceFile("pump.py", place, "0" * 64, len(data)),))})


def test_a_file_becomes_a_step_a_service_and_wheels_of_its_own(tmp_path: Path) -> None:
    entry = item(config={"timeout": "3s", "env": {"K": {"secret": "PUMP"}}, "network": True})
    assert list(PLUGIN.check(entry)) == [] and PLUGIN.sources(entry) == {"file": "tools/pump.py"}
    compiled = PLUGIN.compile(entry, given(tmp_path, TEXT.encode()))
    (step,), (service,) = compiled.steps, compiled.services
    assert [tool["name"] for tool in step.options["tools"]] == ["a", "b"] and step.ship == service.path == "tools/pump"
    assert compiled.apart == {"tools/pump/site": Apart(("humanize>=4",))}
    assert service.config["timeout"] == 3.0 and service.config["env"] == {"K": {"secret": "PUMP"}}
    assert service.config["network"] is True and service.metadata["sends"] == "external"
    assert PLUGIN.compile(item(), given(tmp_path, TEXT.encode())).services[0].metadata["sends"] == "nothing"


def test_a_group_can_be_narrowed(tmp_path: Path) -> None:
    (service,) = PLUGIN.compile(item(allow=["b"]), given(tmp_path, TEXT.encode())).services
    assert service.metadata["tools"] == ["b"]
    with pytest.raises(SourceError, match="allow names 'c', which is no function here"):
        PLUGIN.compile(item(allow=["c"]), given(tmp_path, TEXT.encode()))


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"not UTF-8 \(byte 2\)"):
        PLUGIN.compile(item(), given(tmp_path, b"# \xff"))
    assert PLUGIN.compile(item(), given(tmp_path, b"\xef\xbb\xbf" + TEXT.encode())).services


@pytest.mark.parametrize(
    ("spec", "at", "says"),
    [
        ({"python": "tools/pump.txt"}, "python", "not a .py file"),
        ({"config": {"memory": "1MiB"}}, "config.memory", "greater than or equal"),
        ({"config": {"read": ["data"]}}, "config.read.0", "not an absolute path"),
        ({"config": {"processes": 3}}, "config.processes", "Extra inputs"),
        ({"description": "x"}, "description", "each function brings its own"),
        ({"python": None, "provider": "inline::python"}, "provider", "needs 'python'"),
    ],
)
def test_faults_of_an_entry_have_their_place(spec: dict[str, Any], at: str, says: str) -> None:
    faults = {".".join(map(str, fault.path)): fault.message for fault in PLUGIN.check(item(**spec))}
    assert says in faults[at], faults
