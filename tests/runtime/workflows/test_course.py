"""A run without a state folder: every kind of step, retries, time limits, what is reported; and as a model."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows import flow_app, kit
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from runtime_asking import Answer, asked
from scripted import Step, agent_of, call, scripted


def ran(app: App, given: Any = None, name: str = "flow", **more: Any) -> Answer:
    """A run that the request waits for."""
    body = {"input": {"text": "hello"} if given is None else given, **more}
    return asked(app, "POST", f"/v1/workflows/{name}/runs", body)


def flow(root: Path, steps: Mapping[str, Any], **more: Any) -> App:
    """An application with one workflow, ``flow``."""
    return flow_app(root, {"flow": {"steps": steps, **more}})


def outputs(answer: Answer) -> dict[str, Any]:
    """What each step gave."""
    assert answer.status == 200, answer.body
    return {step["step"]: step["output"] for step in answer.json["steps"]}


def test_steps_use_what_earlier_ones_gave(tmp_path: Path) -> None:
    app = flow(
        tmp_path,
        {
            "guard": {"shield": "strict", "text": "{{input.text}} secret"},
            "find": {"search": "manuals", "query": "red pump", "limit": 1},
            "loud": {"tool": "kit.note", "arguments": {"text": "{{steps.guard.text}}"}},
            "say": {"model": "org/parrot", "prompt": "{{steps.loud.text}} {{steps.find.count}}", "temperature": 0},
            "ask": {"agent": "helper", "prompt": "valve"},
        },
        output={"said": "{{steps.say.text}}", "first": "{{steps.find.hits.0.filename}}", "n": "{{steps.find.count}}"},
    )
    answer = ran(app)
    assert answer.json["status"] == "completed", answer.json["error"]
    assert answer.json["output"] == {"said": "HELLO [SECRET] 1", "first": "manual.md", "n": 1}
    found = outputs(answer)
    assert found["guard"] == {
        "text": "hello [secret]", "allowed": True, "categories": ["secrets"], "message": "", "failed": False,
    }  # fmt: skip
    assert found["find"]["text"].startswith("[1] Pumps\nThe red pump")
    assert "A valve closes slowly." in found["ask"]["text"]
    assert (answer.json["stored"], answer.json["object"], answer.json["workflow"]) == (False, "workflow.run", "flow")


def test_without_an_output_the_last_text_is_it(tmp_path: Path) -> None:
    app = flow(tmp_path, {"a": {"model": "org/parrot", "prompt": "one"}, "b": {"model": "org/parrot", "prompt": "two"}})
    assert ran(app).json["output"] == "two"


def test_an_answer_that_has_to_be_json(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"kind": {"enum": ["bug", "question"]}}, "required": ["kind"]}
    step = {"model": "m", "prompt": "?", "answer": schema, "retries": {"count": 2, "backoff": "0s"}}
    model = scripted("m", Step("not json"), Step('{"kind": "other"}'), Step('{"kind": "bug"}'))
    app = flow_app(
        tmp_path, {"flow": {"steps": {"sort": step}, "output": "{{steps.sort.json.kind}}"}}, more=[model]
    )  # fmt: skip
    answer = ran(app)
    assert answer.json["output"] == "bug"
    assert answer.json["steps"][0]["attempts"] == 3
    asked_for = app.services.get("inference", "m").asked[0].response_format
    assert asked_for["json_schema"]["schema"] == schema


def test_a_branch_goes_the_first_way_that_holds(tmp_path: Path) -> None:
    steps = {
        "sort": {"model": "org/parrot", "prompt": "{{input.text}}"},
        "way": {
            "branch": [
                {
                    "when": {"steps.sort.text": "bug"},
                    "steps": {"fix": {"tool": "kit.note", "arguments": {"text": "fix"}}},
                },
                {
                    "when": {"steps.sort.text": {"contains": "?"}},
                    "steps": {"reply": {"model": "org/parrot", "prompt": "Because {{steps.sort.text}}"}},
                },
            ]
        },
    }
    app = flow(tmp_path, steps, output="{{steps.way.text}}|{{steps.way.case}}")
    assert ran(app, {"text": "bug"}).json["output"] == "FIX|0"
    answer = ran(app, {"text": "why?"})
    assert answer.json["output"] == "Because why?|1"
    assert [step["step"] for step in answer.json["steps"]] == ["sort", "way.reply", "way"]
    other = ran(app, {"text": "hello"}).json
    assert (other["status"], other["error"]["step"]) == ("failed", "output")  # no way was gone, so there is no case
    assert [step["step"] for step in other["steps"]] == ["sort", "way"]


def test_a_map_does_its_steps_for_each_entry(tmp_path: Path) -> None:
    steps = {
        "each": {
            "map": "{{input.words}}",
            "concurrency": 2,
            "steps": {
                "loud": {"tool": "kit.note", "arguments": {"text": "{{item}}"}},
                "say": {"model": "org/parrot", "prompt": "{{index}}: {{steps.loud.text}}"},
            },
        }
    }
    app = flow(tmp_path, steps, input={"type": "object"}, output="{{steps.each.items}}")
    answer = ran(app, {"words": ["a", "b", "c"]})
    assert [item["text"] for item in answer.json["output"]] == ["0: A", "1: B", "2: C"]
    assert {step["step"] for step in answer.json["steps"]} == {
        "each[0].loud", "each[0].say", "each[1].loud", "each[1].say", "each[2].loud", "each[2].say", "each",
    }  # fmt: skip
    assert outputs(ran(app, {"words": []}))["each"]["count"] == 0
    for words, fault in (("text", "is none"), (["x"] * 1001, "at most 1000")):
        failed = ran(app, {"words": words}).json
        assert (failed["status"], failed["error"]["step"]) == ("failed", "each")
        assert fault in failed["error"]["message"]


def test_entries_of_a_map_run_side_by_side_within_bounds(tmp_path: Path) -> None:
    steps = {
        "each": {
            "map": "{{input.words}}", "concurrency": 2,
            "steps": {"wait": {"tool": "kit.slow", "arguments": {"text": "{{item}}"}}},
        }
    }  # fmt: skip
    app = flow(tmp_path, steps, input={"type": "object"})
    both, running, most, lock = threading.Barrier(2, timeout=10), 0, 0, threading.Lock()

    def log(_: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1

    kit(app).gates.log = log
    assert ran(app, {"words": list("abcdef")}).json["status"] == "completed"
    assert most == 2


def test_a_step_is_tried_again_while_that_may_help(tmp_path: Path) -> None:
    step = {"tool": "kit.flaky", "retries": {"count": 2, "backoff": "0s"}}
    app = flow(tmp_path, {"try": step})
    kit(app).gates.faults = [RuntimeError("x"), ApiError(503, "down")]
    answer = ran(app)
    assert answer.json["output"] == "at last"
    assert answer.json["steps"][0]["attempts"] == 3
    kit(app).gates.faults = [ApiError(503, "down") for _ in range(3)]
    failed = ran(app).json
    assert (failed["status"], failed["error"]) == (
        "failed", {"code": "tool_failed", "message": "kit.flaky: down", "step": "try"},
    )  # fmt: skip


def test_what_no_try_can_mend_is_not_tried_again(tmp_path: Path) -> None:
    step = {"model": "org/parrot", "prompt": "{{input.text}}", "retries": {"count": 5, "backoff": "30s"}}
    failed = ran(flow(tmp_path, {"say": step}), {"text": "w " * 300}).json
    assert (failed["error"]["code"], failed["steps"]) == ("context_length_exceeded", [])


def test_a_step_that_may_fail_is_seen_by_those_behind_it(tmp_path: Path) -> None:
    steps = {
        "try": {"tool": "kit.flaky", "on_error": "continue"},
        "way": {
            "branch": [
                {"when": {"steps.try.failed": True}, "steps": {"sorry": {"model": "org/parrot", "prompt": "Sorry."}}}
            ]
        },
    }
    app = flow(tmp_path, steps)
    kit(app).gates.faults = [RuntimeError("x")]
    answer = ran(app)
    assert answer.json["output"] == "Sorry."
    assert outputs(answer)["try"] == {
        "text": "kit.flaky: The tool broke (RuntimeError). Go on without it.",
        "failed": True,
    }


def test_a_try_that_takes_too_long_is_over(tmp_path: Path) -> None:
    step = {"tool": "kit.slow", "arguments": {"text": "x"}, "timeout": "50ms"}
    app = flow(tmp_path, {"wait": step})
    kit(app).gates.gate.clear()
    failed = ran(app).json
    assert (failed["status"], failed["error"]["step"], failed["error"]["code"]) == (
        "failed",
        "wait",
        "deadline_exceeded",
    )


def test_what_a_shield_blocks_ends_the_run(tmp_path: Path) -> None:
    guard = {"shield": "strict", "text": "{{input.text}}"}
    failed = ran(flow(tmp_path / "a", {"guard": guard}), {"text": "a bad one"}).json
    assert failed["error"] == {"code": "content_filter", "message": "bad words are not allowed", "step": "guard"}
    steps = {"guard": {**guard, "on_error": "continue"}}
    answer = ran(flow(tmp_path / "b", steps, output="{{steps.guard.allowed}}"), {"text": "a bad one"})
    assert answer.json["output"] is False


@pytest.mark.parametrize(
    ("given", "fault"),
    [({}, "lacks 'text'"), ({"text": 1}, "'text' must be string"), ({"text": "a", "more": 1}, "has no 'more'")],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, given: Any, fault: str) -> None:
    answer = ran(flow(tmp_path, {"a": {"model": "org/parrot", "prompt": "x"}}), given)
    assert (answer.status, answer.error["param"]) == (400, "input")
    assert fault in answer.error["message"]


def test_requests_that_make_no_sense(tmp_path: Path) -> None:
    app = flow(tmp_path, {"a": {"model": "org/parrot", "prompt": "x"}})
    assert ran(app, name="other").error["code"] == "workflow_not_found"
    answer = ran(app, background=True)
    assert (answer.status, answer.error["code"]) == (503, "no_state")
    assert ran(app, background=True, stream=True).error["param"] == "stream"
    assert ran(app, wait=True).error["param"] == "wait"
    assert asked(app, "GET", "/v1/workflows/flow/runs/wfrun_x").status == 503


def test_where_nobody_can_be_asked_a_run_says_how(tmp_path: Path) -> None:
    app = flow(tmp_path, {"ask": {"approval": "Go on?"}})
    answer = ran(app)
    assert (answer.status, answer.error["code"]) == (409, "approval_required")
    paying = flow(tmp_path / "b", {"pay": {"tool": "kit.pay"}})
    assert ran(paying).error["code"] == "approval_required"
    assert kit(paying).made == []


def test_a_step_taints_the_agents_behind_it(tmp_path: Path) -> None:
    """What a search found may say what an agent shall send; the agent's own policy then decides."""
    sender = scripted("sender", call("mail", {"text": "keys"}), Step("Done."))
    calm = scripted("calm", call("mail", {"text": "keys"}), Step("Done."))
    more = [KIT_MAIL, sender, calm, agent_of("sender", "post"), agent_of("calm", "post")]
    steps = {
        "first": {"agent": "calm-agent", "prompt": "Mail it."},
        "second": {"agent": "sender-agent", "prompt": "Mail {{steps.first.text}}"},
    }
    app = flow_app(tmp_path, {"flow": {"steps": steps}}, more=more)
    assert ran(app).json["status"] == "completed"
    assert [name for name, _ in app.services.get("tool_runtime", "post").made] == ["mail"]  # the first agent's only


KIT_MAIL = Service(api="tool_runtime", name="post", provider="p", entry="scripted:open_kit")


def test_a_workflow_is_a_model(tmp_path: Path) -> None:
    steps = {
        "a": {"tool": "kit.note", "arguments": {"text": "{{input.text}}"}},
        "b": {"model": "org/parrot", "prompt": "say {{steps.a.text}} now"},
    }
    app = flow(tmp_path, steps)
    body = {"model": "flow", "messages": [{"role": "user", "content": "hi"}]}
    answer = asked(app, "POST", "/v1/chat/completions", body).json
    assert answer["choices"][0]["message"]["content"] == "say HI now"
    assert answer["usage"] == {
        "prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6, "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip
    events = asked(app, "POST", "/v1/chat/completions", {**body, "stream": True}).events
    pieces = [event["choices"][0]["delta"].get("content") for event in events]
    assert [piece for piece in pieces if piece] == ["say", " HI", " now"]
    assert "flow" in [model["id"] for model in asked(app, "GET", "/v1/models").json["data"]]


def test_a_model_that_is_a_workflow_says_what_it_takes(tmp_path: Path) -> None:
    steps = {"a": {"model": "org/parrot", "prompt": "{{input.a}} {{input.b}}"}}
    app = flow(tmp_path, steps, input={"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]})
    chat = functools.partial(asked, app, "POST", "/v1/chat/completions")

    def body(text: str, **more: Any) -> dict[str, Any]:
        return {"model": "flow", "messages": [{"role": "user", "content": text}], **more}

    assert chat(body('{"a": 1, "b": 2}')).json["choices"][0]["message"]["content"] == "1 2"
    assert "JSON object with a, b" in chat(body("hello")).error["message"]
    assert chat(body('{"a": 1}')).error["param"] == "input"
    assert chat(body('{"a": 1, "b": 2}', n=2)).error["param"] == "n"
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert chat(body('{"a": 1, "b": 2}', tools=[tool])).error["param"] == "tools"


def test_a_failed_step_is_told_to_the_chat(tmp_path: Path) -> None:
    app = flow(tmp_path, {"try": {"tool": "kit.flaky"}})
    kit(app).gates.faults = [RuntimeError("x")]
    answer = asked(
        app, "POST", "/v1/chat/completions", {"model": "flow", "messages": [{"role": "user", "content": "?"}]}
    )
    assert (answer.status, answer.error["type"], answer.error["code"]) == (424, "workflow_error", "tool_failed")
    assert "at the step 'try'" in answer.error["message"]


def test_a_workflow_is_a_step_of_another(tmp_path: Path) -> None:
    inner = {"steps": {"a": {"tool": "kit.note", "arguments": {"text": "{{input.text}}"}}}}
    outer = {"steps": {"b": {"agent": "inner", "prompt": "from {{input.text}}"}}}
    app = flow_app(tmp_path, {"inner": inner, "outer": outer})
    assert ran(app, name="outer").json["output"] == "FROM HELLO"


def test_the_steps_of_a_stream(tmp_path: Path) -> None:
    steps = {
        "a": {"tool": "kit.note", "arguments": {"text": "x"}},
        "b": {"model": "org/parrot", "prompt": "one two"},
    }
    events = ran(flow(tmp_path, steps), stream=True).events
    assert [(event["type"], event.get("step") or event.get("delta") or "") for event in events] == [
        ("step.started", "a"), ("step.completed", "a"), ("step.started", "b"), ("output_text.delta", "one"),
        ("output_text.delta", " two"), ("step.completed", "b"), ("run.completed", ""),
    ]  # fmt: skip
    assert events[-1]["run"]["output"] == "one two"


def test_a_stream_tells_of_the_steps_in_maps_and_branches(tmp_path: Path) -> None:
    note = {"a": {"tool": "kit.note", "arguments": {"text": "{{item}}"}}}
    steps = {
        "each": {"map": "{{input.words}}", "steps": note},
        "way": {"branch": [{"steps": {"b": {"tool": "kit.note", "arguments": {"text": "x"}}}}]},
    }
    given = {"type": "object", "properties": {"words": {"type": "array"}}, "required": ["words"]}
    events = ran(flow(tmp_path, steps, input=given), {"words": ["x", "y"]}, stream=True).events
    assert [(event["type"].removeprefix("step."), event.get("step", "")) for event in events] == [
        ("started", "each"), ("started", "each[0].a"), ("completed", "each[0].a"), ("started", "each[1].a"),
        ("completed", "each[1].a"), ("completed", "each"), ("started", "way"), ("started", "way.b"),
        ("completed", "way.b"), ("completed", "way"), ("run.completed", ""),
    ]  # fmt: skip


def test_workflows_are_listed_and_described(tmp_path: Path) -> None:
    app = flow(tmp_path, {"a": {"model": "org/parrot", "prompt": "x"}}, description="Says x.")
    (one,) = asked(app, "GET", "/v1/workflows").json["data"]
    assert one == asked(app, "GET", "/v1/workflows/flow").json
    assert (one["id"], one["description"], one["steps"], one["input"]["required"]) == (
        "flow",
        "Says x.",
        ["a"],
        ["text"],
    )
