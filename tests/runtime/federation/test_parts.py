"""The parts of a route that do no I/O: window, breaker, budget, order, pauses, and what failures mean."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lsbuild_runtime.federation import breaker, budget
from lsbuild_runtime.federation.breaker import Breaker
from lsbuild_runtime.federation.budget import Budget, Spent
from lsbuild_runtime.federation.candidate import Candidate, Settings, Skipped, pause_before
from lsbuild_runtime.federation.failures import failure_of
from lsbuild_runtime.federation.order import groups, ordered
from lsbuild_runtime.federation.window import Window
from lsbuild_runtime.http import ApiError


class Clock:
    """A clock that stands until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_forgets() -> None:
    window = Window(60)
    for now in (0.0, 30.0, 59.9):
        window.add(now, 1)
    assert window.total(60.0) == 3, "a value counts for the whole span"
    assert window.total(64.0) == 2, "and for at most a twentieth longer"
    window.add(1e6, 5)
    assert window.total(1e6) == 5


def tickets(found: int | None) -> int:
    """A ticket that must be there."""
    assert found is not None
    return found


def state(circuit: Breaker) -> str:
    """Its state now."""
    return circuit.state


def test_a_breaker_opens_probes_once_and_closes() -> None:
    clock = Clock()
    circuit = Breaker(breaker.Limits(ratio=0.5, window=10, calls=4, open=15), clock)
    for worked in (True, False, True):
        ticket = tickets(circuit.admit())
        (circuit.succeeded if worked else circuit.failed)(ticket)
    assert state(circuit) == "closed", "one of three"
    old = tickets(circuit.admit())
    circuit.failed(tickets(circuit.admit()))
    assert (state(circuit), circuit.admit(), circuit.wait()) == ("open", None, 15)
    clock.now += 15
    probe = tickets(circuit.admit())
    assert (state(circuit), circuit.admit()) == ("half-open", None), "only one probe"
    circuit.succeeded(old)
    assert state(circuit) == "half-open", "a call from before says nothing about now"
    circuit.failed(probe)
    assert state(circuit) == "open"
    clock.now += 15
    probe = tickets(circuit.admit())
    circuit.abandoned(probe)
    probe = tickets(circuit.admit())
    circuit.succeeded(probe)
    assert state(circuit) == "closed"
    circuit.failed(tickets(circuit.admit()))
    assert state(circuit) == "closed", "what was before it opened is forgotten"


def test_failures_that_are_long_ago_do_not_open_a_breaker() -> None:
    clock = Clock()
    circuit = Breaker(breaker.Limits(calls=3, window=10), clock)
    for _ in range(9):
        circuit.failed(tickets(circuit.admit()))
        clock.now += 6
    assert state(circuit) == "closed"


@pytest.mark.parametrize(
    ("limits", "size", "fits", "failure"),
    [
        ({"requests_per_minute": 3}, 10, 3, "overload"),
        ({"requests_per_day": 2}, 10, 2, "cost"),
        ({"tokens_per_minute": 35}, 10, 3, "overload"),
        ({"tokens_per_day": 9}, 10, 0, "cost"),
        ({"tokens_in_flight": 20}, 10, 2, "overload"),
    ],
)
def test_a_budget_ends(limits: dict[str, int], size: int, fits: int, failure: str) -> None:
    spending = Budget(budget.Limits(**limits), Clock())
    for _ in range(fits):
        spending.take(size)
    with pytest.raises(Spent, match=next(iter(limits))) as caught:
        spending.take(size)
    assert caught.value.failure == failure


def test_a_budget_counts_what_was_used() -> None:
    clock = Clock()
    spending = Budget(budget.Limits(tokens_per_minute=100, tokens_in_flight=100), clock)
    spending.take(90)
    spending.settle(90, 20)
    spending.take(80)
    spending.settle(80, 80)
    with pytest.raises(Spent):
        spending.take(1)
    clock.now += 64
    spending.take(100)


def candidate(clock: Clock | None = None, **settings: Any) -> Candidate:
    """A candidate of its own."""
    return Candidate(Settings(model=settings.pop("model", "m"), **settings), breaker.Limits(), clock or Clock())


def test_a_budget_that_refuses_leaves_the_probe_to_another() -> None:
    clock = Clock()
    one = candidate(clock, budget=budget.Limits(tokens_in_flight=10))
    for _ in range(5):
        one.failed(one.admit(lambda: 0), "error", ApiError(502, "x"))
    clock.now += 20
    with pytest.raises(Skipped, match="tokens_in_flight"):
        one.admit(lambda: 11)
    one.admit(lambda: 10)


def test_the_size_is_not_reckoned_where_nothing_is_limited() -> None:
    def size() -> int:
        raise AssertionError

    assert candidate().admit(size).tokens == 0


def test_a_candidate_that_named_a_time_is_left_alone_until_then() -> None:
    clock = Clock()
    one = candidate(clock)
    busy = ApiError(429, "busy", code="upstream_rate_limit", retry_after=7)
    one.failed(one.admit(lambda: 0), "overload", busy)
    with pytest.raises(Skipped) as caught:
        one.admit(lambda: 0)
    assert (caught.value.failure, caught.value.wait) == ("overload", 7)
    one.admit(lambda: 0, pause=7)
    clock.now += 7
    one.admit(lambda: 0)
    full = ApiError(429, "full", code="queue_full", retry_after=1)
    one.failed(one.admit(lambda: 0), "overload", full)
    one.admit(lambda: 0)


def test_pauses_grow_with_full_jitter_and_respect_retry_after() -> None:
    assert [pause_before(retry, None, lambda: 1.0) for retry in (0, 1, 2, 9)] == [0.25, 0.5, 1.0, 8.0]
    assert pause_before(3, None, lambda: 0.0) == 0.0
    assert 5 <= pause_before(0, 5) <= 5.25


def order(key: str = "", **weights: float | None) -> list[str]:
    """Names in the order of one request."""
    found = [candidate(model=name, weight=weight) for name, weight in weights.items()]
    return [each.model for each in ordered(groups(found), key)]


def test_candidates_without_weights_stay_in_order() -> None:
    assert order(a=None, b=None, c=None) == ["a", "b", "c"]
    assert order(a=None, b=3.0, c=None) == ["a", "b", "c"]


def test_weights_are_shares_and_a_conversation_keeps_its_candidate() -> None:
    first = Counter(order(a=3.0, b=1.0, c=None)[0] for _ in range(4000))
    assert set(first) == {"a", "b"} and 2800 < first["a"] < 3200
    keys = [f"conversation-{number}" for number in range(2000)]
    before = {key: order(key, a=1.0, b=1.0, c=2.0)[0] for key in keys}
    assert 850 < Counter(before.values())["c"] < 1150
    assert before == {key: order(key, a=1.0, b=1.0, c=2.0)[0] for key in keys}
    after = {key: order(key, a=1.0, b=1.0)[0] for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != "c"), "only c's share moves"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ApiError(400, "x", code="context_length_exceeded"), "context_length"),
        (ApiError(400, "x", code="content_filter"), "safety"),
        (ApiError(400, "x", code="invalid_value"), None),
        (ApiError(400, "x"), None),
        (ApiError(408, "x", code="deadline_exceeded"), None),
        (ApiError(408, "x", code="attempt_timeout"), "timeout"),
        (ApiError(429, "x", code="queue_full"), "overload"),
        (ApiError(429, "x", code="insufficient_quota"), "cost"),
        (ApiError(402, "x"), "cost"),
        (ApiError(502, "x", code="upstream_error"), "error"),
        (ApiError(502, "x", code="upstream_timeout"), "timeout"),
        (ApiError(502, "x", code="upstream_overloaded"), "overload"),
        (ApiError(503, "x", code="service_unavailable"), "error"),
        (ApiError(507, "x"), "overload"),
        (ApiError(400, "x", type="exceed_context_size_error"), "context_length"),
        (RuntimeError("x"), "error"),
    ],
)
def test_what_failures_mean(error: Exception, failure: str | None) -> None:
    assert failure_of(error) == failure
