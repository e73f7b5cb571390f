"""Tools in a real artifact: a Python tool with dependencies of its own, a calculator, an MCP server, called over HTTP."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifact_tools import ROOT, Lsbuild, booted, compiled, post

PUMP = '''# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "humanize>=4.9,<5",
#   "msgspec>=0.18,<0.19",
#   "packaging>=24",
# ]
# ///
"""What the pump says."""

import os
import sys
from typing import Literal

import humanize
import msgspec
import packaging.version


def flow(litres: int, unit: Literal["l", "gal"] = "l") -> dict[str, str]:
    """Tells the flow of the pump.

    Args:
        litres: How much it was.
        unit: In which unit.
    """
    print("flow was asked")
    return {"flow": humanize.intcomma(litres), "unit": unit}


def versions() -> list[str]:
    """Tells the versions of its libraries, and where they are from."""
    assert packaging.version.Version(humanize.__version__)
    return [msgspec.__version__, str(len([path for path in sys.path if path.endswith("site")]))]


def hang() -> str:
    """Hangs."""
    while True:
        pass


def environment() -> list[str]:
    """Names of its environment."""
    return sorted(os.environ)
'''
SPEC: dict[str, Any] = {
    "name": "tools",
    "tools": {
        "pump": {"python": "tools/pump.py", "config": {"timeout": "2s", "env": {"PUMP_KEY": {"secret": "PUMP_KEY"}}}},
        "calc": {"builtin": "calculator"},
        "now": {"builtin": "time", "config": {"timezone": "Europe/Berlin"}},
        "odd": {
            "mcp": {
                "command": [sys.executable, "-I", str(ROOT / "tests" / "plugins" / "mcp" / "odd_server.py"), "dies-not"]
            }
        },
        "site": {
            "description": "Asks the site.",
            "http": {
                "url": "http://127.0.0.1:9/{name}",
                "private": True,
                "parameters": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "tools").mkdir()
    (folder / "tools" / "pump.py").write_text(PUMP)
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, spec: Path) -> Path:
    return compiled(lsbuild, spec, spec.parent / "out")


@pytest.fixture(scope="module")
def base(artifact: Path) -> Iterator[str]:
    with booted(artifact, environ={"PUMP_KEY": "k"}) as found:
        yield found


def invoke(base: str, tool: str, **kwargs: Any) -> Any:
    return post(f"{base}/v1/tool-runtime/invoke", {"tool_name": tool, "kwargs": kwargs})


def test_each_tool_answers(base: str) -> None:
    answer = invoke(base, "flow", litres=1234567)
    assert answer["metadata"]["structured_content"] == {"flow": "1,234,567", "unit": "l"}
    assert invoke(base, "calc", expression="2**10")["content"] == "1024"
    assert "Europe/Berlin" in invoke(base, "now")["content"]
    assert invoke(base, "echo", text="x")["content"] == "x"
    assert invoke(base, "site", name="x")["error_message"] == "The request failed: 127.0.0.1 could not be connected to."


def test_a_tool_has_its_own_versions_of_what_the_runtime_has_too(base: str, artifact: Path) -> None:
    version, own = invoke(base, "versions")["metadata"]["structured_content"]
    assert version.startswith("0.18.") and own == "1"
    assert (artifact / "site" / "msgspec").is_dir() and not (artifact / "site" / "humanize").exists()


def test_a_call_that_hangs_is_stopped_and_the_server_serves_on(base: str) -> None:
    assert invoke(base, "hang")["error_message"] == "hang failed: it ran for 2 s and was stopped"
    assert invoke(base, "flow", litres=1)["content"]
    assert "PUMP_KEY" in invoke(base, "environment")["metadata"]["structured_content"]


def test_bad_arguments_are_refused(base: str) -> None:
    for name, kwargs in (("flow", {"litres": "many"}), ("flow", {}), ("site", {"name": "A"})):
        with pytest.raises(urllib.error.HTTPError) as caught:
            invoke(base, name, **kwargs)
        assert caught.value.code == 400 and json.load(caught.value)["error"]["param"] == "kwargs"


def test_verify_inspect_and_plan_know_the_tools(lsbuild: Lsbuild, artifact: Path, spec: Path) -> None:
    done = lsbuild("verify", artifact, "--json")
    assert done.code == 0, done.out
    details = {check["name"]: check["detail"] for check in done.json["checks"]}
    assert details["tool_runtime pump"] == "not asked: it needs PUMP_KEY" and details["tool_runtime calc"] == "calc"
    assert details["tool_runtime odd"] == "not asked: it would leave this machine"
    said = lsbuild("inspect", artifact).out
    assert "flow, versions, hang, environment\n" in said and "echo, files_read_all (sends external)" in said
    assert "tools.calc: calc (trusted)\n" in lsbuild(spec, "-o", spec.parent / "again").out
    assert "/v1/tool-runtime/invoke" in said
    assert "tools.pump.python" in lsbuild("plan", spec).out


def test_the_lock_holds_the_definitions_and_the_wheels_of_the_tool(spec: Path, artifact: Path) -> None:
    sources = json.loads((spec.parent / "lsbuild.lock").read_text())["sources"]
    (own,) = [name for name in sources if "/whole?" in name]
    assert any(name.startswith("humanize-4") for name in sources[own]["files"])
    (odd,) = [name for name in sources if name.startswith("mcp:odd{")]
    assert list(sources[odd]["files"]) == ["definitions.json"]


def test_a_killed_server_leaves_no_tool_behind(artifact: Path, tmp_path: Path) -> None:
    with booted(artifact, environ={"PUMP_KEY": "k", "TMPDIR": str(tmp_path)}, end=signal.SIGKILL) as base:
        assert invoke(base, "flow", litres=1)["content"]
        (folder,) = tmp_path.iterdir()
        users = [path for path in Path("/proc").glob("[0-9]*") if _works_in(path, folder)]
        assert users
        watched = [os.pidfd_open(int(path.name)) for path in users]
    for descriptor in watched:
        assert select.select([descriptor], [], [], 20)[0], "the tool's process outlived the server"
        os.close(descriptor)


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").resolve() == folder.resolve()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def f(x):\n    '''D.'''\n", "tools/pump.py:1: f: the parameter 'x' has no type"),
        ("# /// script\n# requires-python = '>=3.99'\n# ///\ndef f():\n    '''D.'''\n", "needs Python >=3.99"),
    ],
)
def test_a_file_that_cannot_be_a_tool_fails_the_build(lsbuild: Lsbuild, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "pump.py").write_text(text)
    (tmp_path / "spec.yaml").write_text(json.dumps({"tools": {"pump": {"python": "tools/pump.py"}}}))
    done = lsbuild(tmp_path / "spec.yaml", "-o", tmp_path / "out")
    assert done.code == 3 and says in done.err + done.out, done.err + done.out
