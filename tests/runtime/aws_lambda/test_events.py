"""Events of all five front doors become the same request, and answers take the form that each of them wants."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lambda_events import DOORS, Make, encoded, function_url
from lsbuild_runtime.http import Context, Response
from lsbuild_runtime.serve.aws_lambda import events


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(door: str) -> Make:
    return DOORS[door]


def read(event: dict[str, Any]) -> events.Incoming:
    return events.read(encoded(event), Context())


def test_every_door_gives_the_same_request(door: str, make: Make) -> None:
    event = make("POST", "/v1/embeddings", "limit=3&after=", b'{"input": "\xc3\xa4"}', Content_Type="application/json")
    incoming = read(event)
    assert incoming.door == door
    request = incoming.request
    assert (request.method, request.path) == ("POST", "/v1/embeddings")
    assert request.query == {"limit": "3", "after": ""}
    assert request.headers["content-type"] == "application/json"
    assert request.body == b'{"input": "\xc3\xa4"}'
    assert incoming.fault is None


def test_a_binary_body_arrives_as_it_was_sent(make: Make) -> None:
    assert read(make("POST", "/v1/files", body=b"\xff\x00\xfe")).request.body == b"\xff\x00\xfe"


def test_no_body_is_an_empty_one(make: Make) -> None:
    assert read(make()).request.body == b""


def test_a_body_that_is_no_base64_is_refused_as_the_client_s_fault(make: Make) -> None:
    incoming = read({**make("POST"), "body": "no base64!", "isBase64Encoded": True})
    assert incoming.fault is not None
    assert incoming.fault.status == 400


def test_paths_are_decoded_and_a_stage_is_no_part_of_them(make: Make) -> None:
    assert read(make("GET", "/v1/models/org%2Fparrot")).request.path == "/v1/models/org/parrot"


def test_a_path_that_only_begins_like_the_stage_is_kept() -> None:
    event = DOORS["http-api"]("GET")
    event["rawPath"] = "/production"
    assert read(event).request.path == "/production"


@pytest.mark.parametrize("name", ["function-url", "http-api", "alb", "alb-multi"])
def test_queries_that_come_as_written_are_decoded(name: str) -> None:
    assert read(DOORS[name](query="q=a%20b+c%26")).request.query == {"q": "a b c&"}


def test_cookies_are_one_header() -> None:
    assert read({**function_url(), "cookies": ["a=1", "b=2"]}).request.headers["cookie"] == "a=1; b=2"


@pytest.mark.parametrize("event", [{}, {"Records": [{"body": "x"}]}, [], "text", {"requestContext": {"http": 3}}])
def test_what_is_no_http_request_is_said_to_be_none(event: Any) -> None:
    with pytest.raises(events.UnknownEvent, match="no HTTP request"):
        events.read(json.dumps(event).encode(), Context())


def test_a_text_answer_is_text_and_a_binary_one_base64(door: str) -> None:
    headers = {"content-type": "application/json", "x-request-id": "r1"}
    text = json.loads(events.whole(door, Response(201, b'{"a":"\xc3\xa4"}', headers)))  # type: ignore[arg-type]
    assert (text["statusCode"], text["body"], text["isBase64Encoded"]) == (201, '{"a":"ä"}', False)
    if door == "alb-multi":
        assert text["multiValueHeaders"] == {name: [value] for name, value in headers.items()}
    else:
        assert text["headers"] == headers
    binary = json.loads(events.whole(door, Response(200, b"\xff\xfe")))  # type: ignore[arg-type]
    assert binary["isBase64Encoded"] is True
    assert base64.b64decode(binary["body"]) == b"\xff\xfe"


def test_only_a_load_balancer_wants_a_description_and_takes_less(door: str) -> None:
    answer = json.loads(events.whole(door, Response()))  # type: ignore[arg-type]
    assert ("statusDescription" in answer) == door.startswith("alb")
    assert events.limit(door) == (1 << 20 if door.startswith("alb") else 6_291_556)  # type: ignore[arg-type]


def test_a_streamed_body_is_joined_where_nothing_streams(door: str) -> None:
    answer = json.loads(events.whole(door, Response(200, iter([b"a", b"b"]))))  # type: ignore[arg-type]
    assert answer["body"] == "ab"


def test_the_prelude_names_no_length() -> None:
    head = json.loads(events.prelude(Response(200, b"x", {"content-length": "1", "content-type": "text/plain"})))
    assert head == {"statusCode": 200, "headers": {"content-type": "text/plain"}}


def test_values_that_come_several_times_are_all_there() -> None:
    event = DOORS["alb-multi"]("GET", "/v1/models", X_Tag="one")
    event["multiValueHeaders"] |= {"Cookie": ["a=1", "b=2"], "X-Tag": ["one", "two"]}
    request = read(event).request
    assert (request.headers["cookie"], request.headers["x-tag"]) == ("a=1; b=2", "one, two")
