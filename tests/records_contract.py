"""The contract of `lsbuild_runtime.responses.records` as tests that every implementation runs: subclass and give the fixture.

    class TestMine(RecordsContract):
        @pytest.fixture
        def records(self) -> Open: ...

``records(**limits)`` opens what is kept as another process would: all of them see the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.responses.records import Conversation, Entry, Kept, Records, Step

Open = Callable[..., Records]
DAY = 86_400


def kept(name: str, **changes: Any) -> Kept:
    """A response that begins."""
    values: dict[str, Any] = {
        "id": name, "created_at": 1_000, "status": "in_progress", "model": "actor", "body": b'{"output": []}', "run": b"{}",
    }  # fmt: skip
    return Kept(**{**values, **changes})


def step(number: int, sequence: int = 5) -> Step:
    """A step."""
    return Step(
        messages=[{"role": "assistant", "content": f"step {number}"}], output=msgspec.Raw(b'[{"n": 1}]'), used=(number, 1, 2),
        usage=(10, 2, 1), tainted=False, sequence=sequence,
    )  # fmt: skip


def entry(name: str, text: str = "{}") -> Entry:
    """An item."""
    return Entry(name, text.encode())


def event(number: int) -> bytes:
    """An event."""
    return b'{"type": "x", "sequence_number": %d}' % number


class RecordsContract:
    """``at`` among the limits is the time of day, in seconds since 1970."""

    def test_a_response_is_kept_from_its_beginning_to_its_end(self, records: Open) -> None:
        one, other = records(), records()
        one.enter("a")
        one.begin(kept("r1", input=b'[{"i": 1}]'), "a")
        begun = other.get("r1")
        assert begun is not None
        assert (begun.status, begun.input, begun.run, begun.tries) == ("in_progress", b'[{"i": 1}]', b"{}", 0)
        assert one.step("r1", "a", step(1))
        assert one.step("r1", "a", step(2))
        assert [each.used[0] for each in other.steps("r1")] == [1, 2]
        assert bytes(other.steps("r1")[0].output) == b'[{"n": 1}]'
        assert one.end("r1", "a", "completed", b'{"done": 1}', [entry("msg_1", '{"m": 1}')])
        ended = other.get("r1")
        assert ended is not None
        assert (ended.status, ended.body, ended.run) == ("completed", b'{"done": 1}', b"")
        assert other.steps("r1") == []
        assert other.item("msg_1") == b'{"m": 1}'
        assert not one.step("r1", "a", step(3))
        assert not one.end("r1", "a", "failed", b"{}", [])

    def test_what_an_owner_writes_that_has_lost_a_response_is_not_kept(self, records: Open) -> None:
        one = records()
        one.begin(kept("r1"), "a")
        assert not one.step("r1", "b", step(1))
        assert not one.end("r1", "b", "completed", b"{}", [])
        assert one.cancel("r1", b'{"cancelled": 1}')
        assert not one.end("r1", "a", "completed", b"{}", [])
        found = one.get("r1")
        assert found is not None
        assert (found.status, found.body) == ("cancelled", b'{"cancelled": 1}')
        assert not one.cancel("r1", b"{}")
        assert one.delete("r1")
        assert not one.delete("r1")
        assert one.get("r1") is None

    def test_events_are_kept_with_their_numbers(self, records: Open) -> None:
        one = records()
        one.begin(kept("r1", status="queued"), "", [event(0), event(1)])
        assert one.take("a") is not None
        assert one.step("r1", "a", step(1, sequence=4), [event(2), event(3)])
        assert one.step("r1", "a", step(2, sequence=1_000_002), [event(1_000_000), event(1_000_001)])
        assert one.end("r1", "a", "completed", b"{}", [], [event(1_000_002)])
        numbers = [number for number, _ in one.events("r1", -1)]
        assert numbers == [0, 1, 2, 3, 1_000_000, 1_000_001, 1_000_002]
        assert one.events("r1", 1_000_001) == [(1_000_002, event(1_000_002))]

    def test_a_chain_is_whole_or_empty(self, records: Open) -> None:
        one = records()
        for name, previous in (("r1", ""), ("r2", "r1"), ("r3", "r2")):
            one.begin(kept(name, previous=previous), "a")
            one.end(name, "a", "completed", b"{}", [])
        assert [each.id for each in one.chain("r3")] == ["r1", "r2", "r3"]
        one.delete("r1")
        assert one.chain("r3") == []
        assert one.chain("nothing") == []

    def test_lists_are_read_page_by_page(self, records: Open) -> None:
        one = records()
        for number in range(5):
            one.begin(kept(f"r{number}", model="odd" if number % 2 else "even"), "a")
        page = one.page(limit=2, newest_first=True, after=None, model=None)
        assert ([each.id for each in page.values], page.more) == (["r4", "r3"], True)
        page = one.page(limit=9, newest_first=True, after="r3", model="even")
        assert ([each.id for each in page.values], page.more) == (["r2", "r0"], False)
        page = one.page(limit=9, newest_first=False, after="r3", model=None)
        assert [each.id for each in page.values] == ["r4"]
        with pytest.raises(ApiError, match="after"):
            one.page(limit=9, newest_first=True, after="nothing", model=None)

    def test_what_waits_is_taken_once_the_oldest_first(self, records: Open) -> None:
        one, other = records(), records()
        one.enter("a")
        other.enter("b")
        for number in range(3):
            one.begin(kept(f"r{number}", status="queued", background=True), "")
        assert one.waiting()
        first, second = one.take("a"), other.take("b")
        assert first is not None
        assert second is not None
        assert (first.id, first.status, second.id) == ("r0", "queued", "r1")
        assert one.take("a") is not None
        assert one.take("a") is None
        assert not one.waiting()
        again = one.get("r0")
        assert again is not None
        assert (again.status, again.tries) == ("in_progress", 1)

    def test_many_servers_take_each_response_once(self, records: Open) -> None:
        servers = [records() for _ in range(4)]
        for number in range(20):
            servers[0].begin(kept(f"r{number}", status="queued"), "")
        taken: list[str] = []

        def work(place: int) -> None:
            servers[place].enter(f"owner_{place}")
            while (found := servers[place].take(f"owner_{place}")) is not None:
                taken.append(found.id)

        threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(taken) == sorted(f"r{number}" for number in range(20))

    def test_what_a_server_leaves_is_anybodys_at_once(self, records: Open) -> None:
        one, other = records(), records()
        one.enter("a")
        other.enter("b")
        one.begin(kept("r1"), "a")
        assert other.take("b") is None
        one.leave("a")
        found = other.take("b")
        assert found is not None
        assert (found.id, found.status) == ("r1", "in_progress")
        assert not one.step("r1", "a", step(1))
        assert other.step("r1", "b", step(1))

    def test_one_response_is_given_up_and_the_others_are_not(self, records: Open) -> None:
        one, other = records(), records()
        one.enter("a")
        other.enter("b")
        for name in ("r1", "r2"):
            one.begin(kept(name), "a")
        one.release("r2", "b")  # it is not b's
        one.release("r1", "a")
        found = other.take("b")
        assert found is not None
        assert found.id == "r1"
        assert other.take("b") is None
        assert one.step("r2", "a", step(1))

    def test_conversations_and_their_items(self, records: Open) -> None:
        one, other = records(), records()
        one.create(Conversation(id="c1", created_at=5, metadata={"a": "b"}), [entry("i1", "1"), entry("i2", "2")])
        assert other.conversation("c1") == Conversation(id="c1", created_at=5, metadata={"a": "b"})
        assert other.update("c1", {"a": "c"})
        one.append("c1", [entry("i3", "3"), entry("i1", "again")])  # an id that is there stays what it is
        page = other.items("c1", limit=2, newest_first=False, after=None)
        assert (page.values, page.more) == ([b"1", b"2"], True)
        assert other.items("c1", limit=None, newest_first=True, after="i3").values == [b"2", b"1"]
        assert (other.entry("c1", "i2"), other.entry("c1", "i9")) == (b"2", None)
        assert other.remove("c1", "i2")
        assert not other.remove("c1", "i2")
        with pytest.raises(ApiError, match="after"):
            one.items("c1", limit=2, newest_first=True, after="i9")
        assert one.drop("c1")
        assert not other.drop("c1")
        assert not other.update("c1", {})
        assert other.conversation("c1") is None
        with pytest.raises(ApiError) as caught:
            other.append("c1", [entry("i4")])
        assert (caught.value.status, caught.value.code) == (404, "conversation_not_found")

    def test_a_conversation_has_one_open_response_and_gets_its_items(self, records: Open) -> None:
        one = records()
        one.create(Conversation(id="c1", created_at=5), [])
        one.begin(kept("r1", conversation="c1"), "a")
        with pytest.raises(ApiError) as caught:
            one.begin(kept("r2", conversation="c1"), "a")
        assert (caught.value.status, caught.value.code) == (409, "conversation_locked")
        with pytest.raises(ApiError) as caught:
            one.begin(kept("r2", conversation="c9"), "a")
        assert caught.value.status == 404
        assert one.end("r1", "a", "completed", b"{}", [entry("out", "2")], inputs=[entry("in", "1")])
        assert one.items("c1", limit=None, newest_first=False, after=None).values == [b"1", b"2"]
        one.begin(kept("r2", conversation="c1"), "a")
        assert one.end("r2", "a", "failed", b"{}", [entry("out2", "3")], inputs=[entry("in2", "3")])
        assert len(one.items("c1", limit=None, newest_first=False, after=None).values) == 2

    def test_servers_that_begin_at_once_get_one_turn_of_a_conversation(self, records: Open) -> None:
        servers = [records() for _ in range(4)]
        servers[0].create(Conversation(id="c1", created_at=5), [])
        outcomes: list[str] = []

        def begin(place: int) -> None:
            try:
                servers[place].begin(kept(f"r{place}", conversation="c1"), f"owner_{place}")
            except ApiError as error:
                outcomes.append(error.code or "")
            else:
                outcomes.append("begun")

        threads = [threading.Thread(target=begin, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(outcomes) == ["begun", *["conversation_locked"] * 3]

    def test_only_so_many_may_wait(self, records: Open) -> None:
        one = records(queue=2)
        for number in range(2):
            one.begin(kept(f"r{number}", status="queued"), "")
        with pytest.raises(ApiError) as caught:
            one.begin(kept("r2", status="queued"), "")
        assert (caught.value.status, caught.value.retry_after) == (429, 10)

    def test_what_is_too_old_goes_unless_it_is_open(self, records: Open) -> None:
        one = records(days=2, at=1_000 + 2 * DAY + 1)
        one.begin(kept("old"), "a")
        one.end("old", "a", "completed", b"{}", [entry("out")])
        one.begin(kept("young", created_at=2_000), "a")
        one.end("young", "a", "completed", b"{}", [])
        one.begin(kept("open"), "a")
        one.expire()
        assert [name for name in ("old", "young", "open") if one.get(name)] == ["young", "open"]
        assert one.item("out") is None

    def test_the_oldest_go_when_there_is_too_much(self, records: Open) -> None:
        one = records(bytes=5_000, at=1_000)
        for number in range(10):
            one.begin(kept(f"r{number}", created_at=1_000 + number), "a")
            one.end(f"r{number}", "a", "completed", b"x" * 1_000, [])
        one.expire()
        left = [f"r{number}" for number in range(10) if one.get(f"r{number}")]
        assert left == ["r6", "r7", "r8", "r9"]
        one.create(Conversation(id="c1", created_at=5), [entry("i1", "x" * 1_000)])
        with pytest.raises(ApiError) as caught:
            one.append("c1", [entry("i2")])
        assert (caught.value.status, caught.value.code) == (507, "state_full")

    def test_odd_texts_are_not_there(self, records: Open) -> None:
        one = records()
        for text in ("", "a\0b", "x" * 5_000, "'; DROP TABLE responses; --", "?", "%s", "Zürich"):
            assert one.get(text) is None
            assert one.conversation(text) is None
            assert one.entry(text, text) is None
            assert not one.delete(text)
            assert one.events(text, -1) == []

    def test_what_was_closed_opens_again(self, records: Open) -> None:
        one = records()
        one.begin(kept("r1"), "a")
        one.close()
        assert one.get("r1") is not None
        one.close()
