"""What is kept of responses: chains, references, lists, deletion, expiry, and a server that keeps nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lsbuild_runtime.app import App
from lsbuild_runtime.responses.keeping import Responses
from responding import SERVICES, STATE, opened, respond, streamed, text_of
from runtime_asking import asked
from small_disk import mounted
from small_services import small_manifest

SEARCH = {"type": "file_search", "vector_store_ids": ["manuals"]}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The application."""
    with opened(tmp_path) as made:
        yield made


def heard(app: App) -> list[Any]:
    """The messages that the model read last."""
    actor: Any = app.services.get("inference", "actor")
    return list(actor.asked[-1].messages)


def path(response: Any, rest: str = "") -> str:
    """The path of a response."""
    return f"/v1/responses/{response['id']}{rest}"


def test_a_response_goes_on_from_another(app: App) -> None:
    first = respond(app, "say one", instructions="Be kind.").json
    second = respond(app, "say two", previous_response_id=first["id"]).json
    third = respond(app, "say three", previous_response_id=second["id"], instructions="Be brief.").json
    assert heard(app) == [
        {"role": "system", "content": "Be brief."},  # instructions are one response's
        {"role": "user", "content": "say one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "say two"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "say three"},
    ]
    assert third["previous_response_id"] == second["id"]
    assert asked(app, "GET", path(third)).json == third


def test_what_a_search_found_is_remembered_though_it_is_not_shown(app: App) -> None:
    first = respond(app, 'call file_search {"query": "red pump"}\nsay See', tools=[SEARCH]).json
    assert first["output"][0]["results"] is None
    respond(app, "say two", previous_response_id=first["id"])
    assert "The red pump needs oil every week." in heard(app)[2]["content"]
    shown = asked(app, "GET", path(first), query={"include[]": "file_search_call.results"}).json
    assert shown["output"][0]["results"][0]["filename"] == "manual.md"


def test_items_can_be_named_by_their_ids(app: App) -> None:
    first = respond(app, "say one").json
    message = first["output"][0]["id"]
    respond(app, [{"role": "user", "content": "say one"}, {"type": "item_reference", "id": message},
                  {"role": "user", "content": "say two"}])  # fmt: skip
    assert [each["content"] for each in heard(app)] == ["say one", "one", "say two"]
    respond(app, [{"id": message}, {"role": "user", "content": "say two"}])
    assert [each["content"] for each in heard(app)] == ["one", "say two"]


def test_a_function_is_answered_in_the_next_request(app: App) -> None:
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    first = respond(app, "call look\nsay Done", tools=[tool]).json
    call = first["output"][0]
    refused = respond(app, "say two", previous_response_id=first["id"])
    assert (refused.status, refused.error["param"]) == (400, "input")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "seen"}
    second = respond(app, [output], previous_response_id=first["id"], tools=[tool]).json
    assert text_of(second) == "Done"
    assert heard(app)[-1] == {"role": "tool", "tool_call_id": call["call_id"], "content": "seen"}


def test_input_items_are_listed_page_by_page(app: App) -> None:
    items = [{"role": "user", "content": f"say {number}"} for number in range(5)]
    response = respond(app, items).json
    listed = asked(app, "GET", path(response, "/input_items"), query={"limit": "2", "order": "asc"}).json
    texts = [each["content"][0]["text"] for each in listed["data"]]
    assert (texts, listed["has_more"], listed["object"]) == (["say 0", "say 1"], True, "list")
    rest = asked(app, "GET", path(response, "/input_items"), query={"after": listed["last_id"], "order": "asc"}).json
    assert [each["content"][0]["text"] for each in rest["data"]] == ["say 2", "say 3", "say 4"]
    newest = asked(app, "GET", path(response, "/input_items"), query={"limit": "1"}).json
    assert newest["data"][0]["content"][0]["text"] == "say 4"
    assert asked(app, "GET", path(response, "/input_items"), query={"after": "x"}).error["param"] == "after"


def test_responses_are_listed_with_their_input(app: App) -> None:
    made = [respond(app, f"say {number}", model).json["id"] for number, model in enumerate(("actor", "eyes", "actor"))]
    listed = asked(app, "GET", "/v1/responses", query={"order": "asc"}).json
    assert [each["id"] for each in listed["data"]] == made
    assert listed["data"][0]["input"][0]["content"] == [{"type": "input_text", "text": "say 0"}]
    page = asked(app, "GET", "/v1/responses", query={"limit": "1", "model": "actor"}).json
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([made[2]], True)
    rest = asked(app, "GET", "/v1/responses", query={"after": made[2], "model": "actor"}).json
    assert [each["id"] for each in rest["data"]] == [made[0]]


def test_a_deleted_response_is_gone_and_what_followed_it_cannot_go_on(app: App) -> None:
    first = respond(app, "say one").json
    second = respond(app, "say two", previous_response_id=first["id"]).json
    deleted = asked(app, "DELETE", path(first)).json
    assert deleted == {"id": first["id"], "object": "response", "deleted": True}
    for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        answer = asked(app, method, path(first, rest), None)
        assert (answer.status, answer.error["code"]) == (404, "response_not_found")
    assert respond(app, "say x", previous_response_id=second["id"]).error["code"] == "previous_response_not_found"
    assert respond(app, [{"id": first["output"][0]["id"]}, {"role": "user", "content": "x"}]).status == 404


def test_what_is_not_to_be_stored_is_not(app: App) -> None:
    response = respond(app, "say one", store=False).json
    assert response["store"] is False
    assert asked(app, "GET", path(response)).status == 404
    for script, status in (("fail 503", 503), ("break", 500)):
        assert respond(app, script).status == status
    assert asked(app, "GET", "/v1/responses").json["data"] == []


def test_a_failed_response_is_kept_as_it_failed(app: App) -> None:
    last = streamed(app, 'call echo {"text": "a"}\nfail 503', "agent")[-1]["response"]
    kept = asked(app, "GET", path(last)).json
    assert kept == last
    assert (kept["status"], kept["output"][0]["type"]) == ("failed", "mcp_call")


def test_only_background_responses_can_be_cancelled_or_streamed_again(app: App) -> None:
    response = respond(app, "say one").json
    assert asked(app, "POST", path(response, "/cancel"), None).status == 400
    assert asked(app, "GET", path(response), query={"stream": "true"}).error["param"] == "stream"
    assert asked(app, "GET", path(response), query={"starting_after": "1"}).error["param"] == "starting_after"
    assert asked(app, "GET", path(response), query={"stream": "true", "starting_after": "x"}).status == 400
    assert asked(app, "GET", path(response), query={"include": "nothing"}).error["param"] == "include[0]"
    assert (
        asked(app, "GET", path(response), query={"include_obfuscation": "true"}).error["param"] == "include_obfuscation"
    )
    assert asked(app, "GET", path(response), query={"other": "1"}).error["param"] == "other"


def test_the_oldest_go_when_there_is_too_much_and_conversations_do_not(tmp_path: Path) -> None:
    with opened(tmp_path, replace(STATE, config={"bytes": 20_000})) as app:
        made = [respond(app, f"say {number} " + "word " * 200).json for number in range(20)]
        app.kept(Responses).records.expire()
        kept = [response["id"] for response in made if asked(app, "GET", path(response)).status == 200]
        assert 0 < len(kept) < 20
        assert kept == [response["id"] for response in made[-len(kept) :]]
        item = {"role": "user", "content": "word " * 1000}
        conversation = asked(app, "POST", "/v1/conversations", {"items": [item] * 3}).json["id"]
        answer = asked(app, "POST", f"/v1/conversations/{conversation}/items", {"items": [item]})
        assert (answer.status, answer.error["code"]) == (507, "state_full")
        assert asked(app, "DELETE", f"/v1/conversations/{conversation}").status == 200


def test_a_prompt_is_what_the_model_is_told_first(app: App) -> None:
    made = asked(app, "POST", "/v1/prompts", {"prompt": "You are {{name}}."}).json["prompt_id"]
    prompt = {"id": made, "version": "1", "variables": {"name": {"type": "input_text", "text": "Ada"}}}
    response = respond(app, "say one", prompt=prompt, instructions="Be kind.").json
    assert heard(app)[0] == {"role": "system", "content": "You are Ada.\n\nBe kind."}
    assert response["prompt"] == prompt
    assert respond(app, "say one", prompt={"id": "pmpt_x"}).error["code"] == "prompt_not_found"
    missing = respond(app, "say one", prompt={"id": made})
    assert (missing.status, missing.error["param"]) == (400, "prompt.variables.name")


def test_without_state_everything_else_works(tmp_path: Path) -> None:
    with opened(tmp_path, None) as app:
        response = respond(app, 'call echo {"text": "a"}\nsay Done', "agent").json
        assert (response["status"], response["store"]) == ("completed", False)
        assert streamed(app, "say Done")[-1]["type"] == "response.completed"
        for fields in (
            {"previous_response_id": "resp_1"},
            {"conversation": "conv_1"},
            {"background": True},
            {"store": True},
        ):
            answer = respond(app, "say Done", **fields)
            assert (answer.status, answer.error["code"]) == (503, "not_built")
        for method, url in (("GET", "/v1/responses"), ("GET", "/v1/responses/x"), ("POST", "/v1/conversations")):
            answer = asked(app, method, url, {} if method == "POST" else None)
            assert (answer.status, answer.error["type"]) == (503, "server_error")
            assert "server" in answer.error["message"]


def test_a_server_without_a_folder_says_how_to_name_one(tmp_path: Path) -> None:
    app = App(small_manifest(SERVICES), tmp_path)
    assert respond(app, "say Done").json["store"] is False
    answer = respond(app, "say Done", background=True)
    assert (answer.status, answer.error["code"]) == (503, "no_state")
    assert "--state" in answer.error["message"]
    assert asked(app, "GET", "/v1/responses/x").status == 503


def test_a_prompt_is_counted_and_a_conversation_put_into_few_words(app: App) -> None:
    counted = asked(app, "POST", "/v1/responses/input_tokens", {"model": "org/parrot", "input": "one two three"})
    assert counted.json == {"object": "response.input_tokens", "input_tokens": 3}
    refused = asked(app, "POST", "/v1/responses/input_tokens", {"model": "actor", "input": "one"})
    assert (refused.status, refused.error["param"]) == (400, "model")
    first = respond(app, "say one").json
    compacted = asked(
        app, "POST", "/v1/responses/compact", {"model": "actor", "previous_response_id": first["id"]}
    ).json
    assert compacted["object"] == "response.compaction"
    user, summary = compacted["output"]
    assert (user["content"][0]["text"], summary["type"]) == ("say one", "compaction")
    respond(app, [*compacted["output"], {"role": "user", "content": "say two"}])
    assert heard(app)[1]["content"].startswith("What was said so far, in few words:\n")


def test_a_conversation_too_long_for_its_model_is_read_in_parts(app: App) -> None:
    items = [{"role": "user", "content": f"{number} word word"} for number in range(40)]
    answer = asked(app, "POST", "/v1/responses/compact", {"model": "eyes", "input": items})
    assert answer.status == 200, answer.body
    assert answer.json["usage"]["input_tokens"] > 10  # the model was asked more than once
    long = [{"role": "user", "content": "word " * 200}]
    refused = asked(app, "POST", "/v1/responses/compact", {"model": "eyes", "input": long})
    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")


def test_a_state_folder_that_cannot_be_written_is_told_and_the_rest_is_served(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with mounted(tmp_path / "state/responses") as small:
        with opened(tmp_path) as app:
            assert respond(app, "say Yes").status == 200
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        with opened(tmp_path) as app:  # it starts all the same
            answer = respond(app, "say Yes")
            assert (answer.status, "make it writable" in answer.error["message"]) == (503, True)
            assert respond(app, "say Yes", store=False).status == 200


def test_a_state_folder_that_cannot_even_be_looked_into(tmp_path: Path) -> None:
    app = App(small_manifest([]), tmp_path, state=tmp_path / ("x" * 300))
    app.start()
    assert asked(app, "GET", "/v1/prompts").json["data"] == []
    assert asked(app, "POST", "/v1/prompts", {"prompt": "x"}).status == 503
    app.close()


def test_a_fault_counts_from_the_first_item_of_the_request(app: App) -> None:
    first = respond(app, "say one").json
    answer = {"type": "mcp_approval_response", "approval_request_id": "mcpr_none", "approve": True}
    fault = respond(app, [answer], previous_response_id=first["id"]).error
    assert fault["param"] == "input[0].approval_request_id"
