"""/v1/tools, /v1/toolgroups and /v1/tool-runtime over real tools: what is told of them, calls, and what is refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from lsbuild_runtime.app import App
from lsbuild_runtime.manifest import SCHEMA, Manifest, Server, Service
from lsbuild_runtime.openapi import document
from lsbuild_runtime.routes import ROUTES
from runtime_asking import Ask, asked

PYTHON = '''
def pressure(pump: str, unit: str = "bar") -> dict:
    """Reads a pump."""
    return {"pump": pump, "unit": unit}

def dry() -> None:
    """Fails."""
    raise RuntimeError("the pump is dry")
'''
DEFINED = [
    {
        "name": "pressure",
        "description": "Reads a pump.",
        "parameters": {
            "type": "object",
            "properties": {"pump": {"type": "string"}, "unit": {"type": "string"}},
            "required": ["pump"],
            "additionalProperties": False,
        },
    },
    {"name": "dry", "description": "Fails.", "parameters": {"type": "object", "properties": {}}},
]
LIMITS = {"timeout": 20.0, "memory": 1 << 29, "output": 1 << 16, "file": 1 << 20}


def tool(name: str, entry: str, provider: str = "inline::tools", **metadata: Any) -> Service:
    path = f"tools/{name}" if provider == "inline::python" else ""
    told = {"tools": [name], "sends": "nothing", "trusted": False, "approval": "never", **metadata}
    config = LIMITS if provider == "inline::python" else {}
    return Service(
        api="tool_runtime", name=name, provider=provider, entry=entry, path=path, config=config, metadata=told
    )


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    root = tmp_path_factory.mktemp("bundle")
    for name in ("pump", "pump2"):
        (root / "tools" / name).mkdir(parents=True)
        (root / "tools" / name / "tool.py").write_text(PYTHON)
        (root / "tools" / name / "tools.json").write_text(json.dumps(DEFINED))
    python = "lsbuild_plugins.python_tool.serve:open_tools"
    services = (
        tool("pump", python, "inline::python", tools=["pressure", "dry"]),
        tool("pump2", python, "inline::python", tools=["pressure"], trusted=True),
        tool("calc", "lsbuild_plugins.tools.serve:open_calculator"),
        tool("asked", "lsbuild_plugins.tools.serve:open_calculator", approval="always"),
    )
    manifest = Manifest(
        schema=SCHEMA,
        name="tools",
        lsbuild="0",
        target="host",
        platform="p",
        services=services,
        server=Server(),
        files=(),
    )
    app = App(manifest, root)
    yield functools.partial(asked, app)
    for name in ("pump", "pump2"):
        app.services.get("tool_runtime", name).close()


def test_tools_are_listed_with_their_groups(ask: Ask) -> None:
    found = ask("GET", "/v1/tools").json["data"]
    assert [(each["toolgroup_id"], each["name"]) for each in found] == [
        ("pump", "pressure"),
        ("pump", "dry"),
        ("pump2", "pressure"),
        ("calc", "calc"),
        ("asked", "asked"),
    ]
    assert found[0]["input_schema"] == DEFINED[0]["parameters"] and found[0]["description"] == "Reads a pump."
    assert [each["identifier"] for each in found] == [each["name"] for each in found]
    (parameter,) = found[3]["parameters"]
    assert (parameter["name"], parameter["parameter_type"], parameter["required"]) == ("expression", "string", True)
    assert (found[3]["type"], found[3]["provider_id"], found[3]["provider_resource_id"]) == ("tool", "tools", "calc")
    assert found[2]["metadata"] == {"sends": "nothing", "trusted": True, "approval": "never"}
    assert ask("GET", "/v1alpha/admin/tools").json["data"] == found
    for path, name in (("/v1/tools", "toolgroup_id"), ("/v1/tool-runtime/list-tools", "tool_group_id")):
        assert [each["name"] for each in ask("GET", path, query={name: "pump2"}).json["data"]] == ["pressure"]
        refused = ask("GET", path, query={name: "none"})
        assert refused.status == 404 and refused.json["error"]["param"] == name
    assert ask("GET", "/v1/tools", query={"limit": "1"}).status == 400


def test_one_tool_and_groups(ask: Ask) -> None:
    assert ask("GET", "/v1/tools/calc").json["toolgroup_id"] == "calc"
    assert ask("GET", "/v1/tools/pump2.pressure").json["metadata"]["trusted"] is True
    assert ask("GET", "/v1/tools/none").status == 404
    groups = ask("GET", "/v1/toolgroups").json["data"]
    assert [group["identifier"] for group in groups] == ["pump", "pump2", "calc", "asked"]
    assert ask("GET", "/v1/toolgroups/calc").json == {
        "identifier": "calc",
        "provider_resource_id": "calc",
        "provider_id": "tools",
        "type": "tool_group",
        "mcp_endpoint": None,
        "args": None,
    }
    assert ask("GET", "/v1/toolgroups/none").status == 404


def invoke(ask: Ask, name: str, **kwargs: Any) -> Any:
    return ask("POST", "/v1/tool-runtime/invoke", {"tool_name": name, "kwargs": kwargs})


def test_a_tool_is_called(ask: Ask) -> None:
    assert invoke(ask, "calc", expression="6*7").json == {
        "content": "42",
        "error_message": None,
        "error_code": None,
        "metadata": {"toolgroup_id": "calc", "structured_content": 42},
    }
    answer = invoke(ask, "pump.pressure", pump="p1").json
    assert answer["metadata"]["structured_content"] == {"pump": "p1", "unit": "bar"}
    assert json.loads(answer["content"]) == {"pump": "p1", "unit": "bar"}


def test_what_a_tool_does_wrong_is_no_error_of_the_server(ask: Ask) -> None:
    answer = invoke(ask, "dry")
    assert answer.status == 200 and answer.json["content"] is None
    assert (
        answer.json["error_message"] == "dry failed: RuntimeError: the pump is dry" and answer.json["error_code"] == 1
    )
    assert invoke(ask, "calc", expression="1/0").json["error_code"] == 1


@pytest.mark.parametrize(
    ("body", "status", "param", "says"),
    [
        ({"tool_name": "none"}, 404, "tool_name", "there is no tool 'none'"),
        ({"tool_name": "pressure"}, 400, "tool_name", "say pump.pressure or pump2.pressure"),
        ({"tool_name": "pump2.dry"}, 404, "tool_name", "there is no tool"),
        ({"tool_name": "asked", "kwargs": {"expression": "1"}}, 403, "tool_name", "approval: always"),
        ({"tool_name": "calc"}, 400, "kwargs", "the object lacks 'expression'"),
        ({"tool_name": "calc", "kwargs": {"expression": 1}}, 400, "kwargs", "'expression' must be string"),
        ({"tool_name": "calc", "kwargs": {"expression": "1", "x": 1}}, 400, "kwargs", "has no 'x'"),
        ({"tool_name": "calc", "kwargs": []}, 400, "kwargs", "an array"),
        (b'{"tool_name": "calc", "kwargs": {"expression": "1", "expression": "2"}}', 400, "kwargs", "is there twice"),
        ({"tool_name": ""}, 400, "tool_name", "length"),
        ({"kwargs": {}}, 400, "tool_name", "required"),
        ({"tool_name": "calc", "args": {}}, 400, "args", "unknown or unsupported"),
    ],
)  # fmt: skip
def test_bad_calls_are_refused_by_name(ask: Ask, body: Any, status: int, param: str, says: str) -> None:
    answer = ask("POST", "/v1/tool-runtime/invoke", body)
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (status, param) and says in error["message"], answer.json


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/tools", None),
        ("GET", "/v1/toolgroups", None),
        ("POST", "/v1/tool-runtime/invoke", {"tool_name": "calc", "kwargs": {"expression": "1"}}),
    ],
)
def test_answers_are_what_the_openapi_document_says(ask: Ask, method: str, path: str, body: Any) -> None:
    described = document(ROUTES)
    operation = described["paths"][path][method.lower()]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(ask(method, path, body).json, {**schema, "components": described["components"]})
