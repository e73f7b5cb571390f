"""`remote::openai`: what the refusals of other servers mean, in the words that they really use."""

from __future__ import annotations

import pytest

from lsbuild_plugins.openai.serve.answers import Fault
from lsbuild_plugins.openai.serve.refusals import refusal, retry_after

VLLM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
LLAMA_CPP = "the request exceeds the available context size, try increasing it"


@pytest.mark.parametrize(
    ("status", "fault", "seen"),
    [
        (400, Fault(VLLM, "BadRequestError", None, 400), (400, "context_length_exceeded")),
        (400, Fault(LLAMA_CPP, "exceed_context_size_error", None, 400), (400, "context_length_exceeded")),
        (400, Fault("x", None, "messages", "context_length_exceeded"), (400, "context_length_exceeded")),
        (400, Fault("x", None, "prompt", "content_policy_violation"), (400, "content_filter")),
        (400, Fault("bad seed", None, "seed", 7), (400, "7")),
        (400, Fault("the context length must be named", None, "x", "invalid_value"), (400, "invalid_value")),
        (422, Fault(), (400, None)),
        (402, Fault(), (502, "insufficient_quota")),
        (429, Fault("x", "insufficient_quota"), (502, "insufficient_quota")),
        (429, Fault("x", "rate_limit"), (429, "upstream_rate_limit")),
        (503, Fault(), (502, "upstream_overloaded")),
        (529, Fault(), (502, "upstream_overloaded")),
        (504, Fault(), (502, "upstream_timeout")),
        (500, Fault(), (502, "upstream_error")),
        (401, Fault(), (502, "upstream_error")),
    ],
)
def test_what_a_refusal_means(status: int, fault: Fault, seen: tuple[int, str | None]) -> None:
    error = refusal("cloud", status, fault, {})
    assert (error.status, error.code) == seen
    assert "'cloud'" in error.message


def test_retry_after_is_passed_on_as_seconds() -> None:
    assert refusal("cloud", 503, Fault(), {"retry-after": "17"}).retry_after == 17
    assert refusal("cloud", 429, Fault(), {}).retry_after == 1
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) is None
    assert retry_after({"retry-after": "-1"}) is None
    assert retry_after({"retry-after": "999999"}) is None
