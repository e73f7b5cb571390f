"""Batches: each line is answered once whatever happens, what is wrong with a line is told with its number."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ogx_client import OgxClient

import batch_process
from batching import CHAT, Scribe, answers, begun, ended, line, now, served
from live_server import eventually, serving
from lsbuild_runtime.app import App
from lsbuild_runtime.batches import worker
from lsbuild_runtime.batches.lines import Line, Unreadable, read
from runtime_asking import asked
from small_services import PARROT, small_manifest
from uploading import upload

PATH = "/v1/batches"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application that keeps state."""
    with served(tmp_path) as made:
        yield made


def scribe(app: App) -> Scribe:
    """Its model."""
    found: Scribe = app.services.get("inference", "scribe")
    return found


def test_a_server_takes_over_what_another_one_on_its_folder_leaves(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.05)
    assert asked(app, "GET", PATH).json["data"] == []
    with served(tmp_path, pace=0.02) as other:
        batch = begun(other, [line(str(number), "a b c d e") for number in range(20)])
        assert eventually(lambda: len(scribe(other).asked) > 1)
    assert ended(app, batch)["request_counts"] == {"total": 20, "completed": 20, "failed": 0}


def test_the_official_client_runs_a_batch(app: App) -> None:
    with serving(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        lines = "\n".join([line("a", "one two"), line("b", "three", model="nobody")]).encode()
        file = client.files.create(file=("in.jsonl", lines), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
        )
        assert batch.status in ("validating", "in_progress")
        assert eventually(lambda: client.batches.retrieve(batch.id).status == "completed", 30)
        done = client.batches.retrieve(batch.id)
        assert done.metadata == {"k": "v"}
        counts, usage = done.request_counts, done.usage
        assert counts is not None
        assert (counts.total, counts.completed, counts.failed) == (2, 1, 1)
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (2, 2)
        assert done.output_file_id is not None
        assert done.error_file_id is not None
        good = json.loads(client.files.content(done.output_file_id).text)
        assert (good["custom_id"], good["response"]["status_code"], good["error"]) == ("a", 200, None)
        assert good["response"]["body"]["choices"][0]["message"]["content"] == "one two"
        bad = json.loads(client.files.content(done.error_file_id).text)
        assert (bad["custom_id"], bad["response"]["status_code"]) == ("b", 404)
        assert bad["response"]["body"]["error"]["code"] == "model_not_found"
        assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
        assert [each.id for each in client.batches.list()] == [batch.id]
        with pytest.raises(openai.BadRequestError, match="cannot be cancelled"):
            client.batches.cancel(batch.id)


def test_llama_stacks_client_reads_them(app: App) -> None:
    first, second = begun(app, [line("a")]), begun(app, [line("b")])
    ended(app, second)
    with serving(app) as url, OgxClient(base_url=url, max_retries=0) as client:
        assert [each.id for each in client.batches.list(limit=1)] == [second["id"], first["id"]]
        assert client.batches.retrieve(first["id"]).status == "completed"


def test_unreadable_lines_are_told_by_their_number(app: App) -> None:
    lines = [line("a"), "{oops", "", line("a"), json.dumps({"custom_id": "c"}), line("d", stream=True), line("e", n=2)]
    batch = ended(app, begun(app, lines))
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 6, "completed": 2, "failed": 4})
    assert set(answers(app, batch["output_file_id"])) == {"a", "e"}
    wrong = [each["error"] for each in answers(app, batch["error_file_id"]).values()]
    assert [each["line"] for each in wrong] == [2, 4, 5, 6]
    assert all(each["message"].startswith(f"line {each['line']}: ") for each in wrong)


def test_vectors_completions_and_responses_are_answered_as_well(app: App) -> None:
    def other(url: str, **body: Any) -> str:
        return json.dumps({"custom_id": "x", "method": "POST", "url": url, "body": body})

    vectors = begun(app, [other("/v1/embeddings", model="letters", input="abc")], "/v1/embeddings")
    texts = begun(app, [other("/v1/completions", model="org/parrot", prompt="a b")], "/v1/completions")
    responses = begun(app, [other("/v1/responses", model="org/parrot", input="a b")], "/v1/responses")
    found = answers(app, ended(app, vectors)["output_file_id"])["x"]["response"]["body"]
    assert len(found["data"][0]["embedding"]) == 26
    found = answers(app, ended(app, texts)["output_file_id"])["x"]["response"]["body"]
    assert found["choices"][0]["text"] == "a b"
    done = ended(app, responses)
    found = answers(app, done["output_file_id"])["x"]["response"]["body"]
    assert found["output"][0]["content"][0]["text"] == "a b"
    assert (done["usage"]["input_tokens"], done["usage"]["output_tokens"]) == (2, 2)


@pytest.mark.parametrize("content", ["\n", "\n  \n"])
def test_an_empty_file_fails_the_batch(app: App, content: str) -> None:
    batch = ended(app, begun(app, [content]))
    assert batch["status"] == "failed"
    assert batch["errors"]["data"][0]["code"] == "empty_file"


def test_a_file_with_too_many_lines_fails_the_batch(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_LINES", 1)
    batch = ended(app, begun(app, [line("a"), line("b")]))
    assert batch["errors"]["data"][0]["code"] == "too_many_requests"
    assert scribe(app).asked == []


def test_an_overloaded_model_is_asked_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LONGEST_DELAY", 0.01)
    batch = ended(app, begun(app, [line("a", "busy 2"), line("b", "busy 99")]))
    assert set(answers(app, batch["output_file_id"])) == {"a"}
    assert answers(app, batch["error_file_id"])["b"]["response"]["status_code"] == 429
    assert Counter(scribe(app).asked) == {"busy 2": 3, "busy 99": worker.MOST_DELAYS + 1}


def test_a_batch_can_be_cancelled(tmp_path: Path) -> None:
    with served(tmp_path, pace=0.05) as app:
        batch = begun(app, [line(f"{number}") for number in range(200)])
        assert eventually(lambda: now(app, batch)["request_counts"]["completed"] > 0)
        assert asked(app, "POST", f"{PATH}/{batch['id']}/cancel").json["status"] == "cancelling"
        batch = ended(app, batch)
        assert batch["status"] == "cancelled"
        count = batch["request_counts"]["completed"]
        assert 0 < count < 200
        assert len(answers(app, batch["output_file_id"])) == count
        assert batch["cancelled_at"] >= batch["cancelling_at"]


def test_a_batch_that_takes_too_long_expires(tmp_path: Path) -> None:
    hours = [0.0]
    with served(tmp_path, pace=0.05, clock=lambda: time.time() + 3600 * hours[0]) as app:
        batch = begun(app, [line(f"{number}") for number in range(200)])
        assert eventually(lambda: now(app, batch)["request_counts"]["completed"] > 0)
        hours[0] = 25
        batch = ended(app, batch)
        assert (batch["status"], batch["request_counts"]["total"]) == ("expired", 200)
        assert sum(batch["request_counts"].values()) == 400
        errors = answers(app, batch["error_file_id"])
        assert {each["error"]["code"] for each in errors.values()} == {"batch_expired"}


def test_a_deleted_input_fails_what_has_not_begun(app: App) -> None:
    app.kept(worker_of()).close()
    batch = begun(app, [line("a")])
    asked(app, "DELETE", f"/v1/files/{batch['input_file_id']}")
    later = App(app.manifest, app.root, state=app.services.state_path)
    later.start()
    batch = ended(later, batch)
    later.close()
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "file_not_found")


def worker_of() -> Any:
    """The class of all batches."""
    from lsbuild_runtime.batches.batches import Batches

    return Batches


# Behind clients


def test_a_line_waits_for_a_quiet_moment(app: App) -> None:
    app.traffic.come()
    batch = begun(app, [line("a")])
    assert eventually(lambda: now(app, batch)["status"] == "in_progress")
    assert scribe(app).asked == []
    app.traffic.go()
    assert ended(app, batch)["status"] == "completed"


def test_a_server_that_is_never_quiet_goes_on(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 0.01)
    app.traffic.come()
    assert ended(app, begun(app, [line("a"), line("b")]))["status"] == "completed"


def test_a_stream_is_traffic_until_it_is_read_or_closed(app: App) -> None:
    from lsbuild_runtime.http import Request

    body = {"model": "scribe", "messages": [{"role": "user", "content": "a b"}], "stream": True}
    for read_it in (True, False):
        response = app.handle(Request("POST", CHAT, body=json.dumps(body).encode()))
        assert not app.traffic.quiet(0)
        if read_it:
            assert b"".join(response.body)
        else:
            response.body.close()  # type: ignore[union-attr]
        assert app.traffic.quiet(0)


def test_few_lines_are_asked_at_a_time(tmp_path: Path) -> None:
    with served(tmp_path, pace=0.02) as app:
        inside, most, lock = 0, 0, threading.Lock()
        answer = app.background

        def counting(request: Any) -> Any:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            try:
                return answer(request)
            finally:
                with lock:
                    inside -= 1

        app.background = counting  # type: ignore[method-assign]
        ended(app, begun(app, [line(f"{number}") for number in range(20)]))
        assert most == app.manifest.server.concurrency // 2


# Kill -9


class Process:
    """batch_process.py, until it is killed."""

    def __init__(self, folder: Path, pace: float) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, batch_process.__file__, str(folder), str(pace)], stdin=subprocess.PIPE, env=environment
        )

    def kill(self) -> None:
        """Kill -9."""
        self._process.kill()
        self._process.communicate()


def kept(folder: Path) -> set[int]:
    """The numbers of the lines whose answers are in the database."""
    db = apsw.Connection(str(folder / "state/batches/batches.sqlite"))
    rows: Any = db.execute("SELECT number FROM lines WHERE answer IS NOT NULL").fetchall()
    db.close()
    return {row[0] for row in rows}


def test_no_acknowledged_line_is_asked_again_after_kill_9(tmp_path: Path) -> None:
    """Servers are killed at random moments; the last one finishes, and what was kept before each kill was never asked again."""
    count, chance = 60, random.Random(20261128)
    with served(tmp_path) as app:
        app.traffic.come()  # nothing is asked yet
        batch = begun(app, [line(f"{number}") for number in range(1, count + 1)])
    asked_before = Counter[str]()
    for _ in range(3):
        before = kept(tmp_path)
        process = Process(tmp_path, 0.02)
        assert eventually(lambda before=before: len(kept(tmp_path)) > len(before) + 3, 60)
        time.sleep(chance.random() * 0.1)
        process.kill()
        with served(tmp_path) as app:
            asked_now = Counter(scribe(app).asked)
        for number in before:
            assert asked_now[f"{number}"] == asked_before[f"{number}"], f"line {number} was acknowledged"
        asked_before = asked_now
    known = kept(tmp_path)
    assert 9 < len(known) < count
    with served(tmp_path) as app:
        app.start()
        batch = ended(app, batch)
        times = Counter(scribe(app).asked)
        assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", count)
        assert len(answers(app, batch["output_file_id"])) == count
        assert all(times[f"{number}"] == asked_before[f"{number}"] for number in known)
        assert sum(times.values()) <= count + 3 * app.manifest.server.concurrency


def test_a_line_that_ends_the_process_is_given_up(tmp_path: Path) -> None:
    with served(tmp_path) as app:
        app.traffic.come()
        batch = begun(app, [line("a"), line("b")])
        assert eventually(lambda: now(app, batch)["status"] == "in_progress")
    db = apsw.Connection(str(tmp_path / "state/batches/batches.sqlite"))
    db.execute("INSERT INTO lines(batch, number, tries, good) VALUES (?, 1, ?, 0)", (batch["id"], worker.MOST_TRIES))
    db.close()
    with served(tmp_path) as app:
        app.start()
        batch = ended(app, batch)
        assert scribe(app).asked == ["b"]
        assert answers(app, batch["error_file_id"])["a"]["error"]["code"] == "server_error"


def test_a_server_that_stops_gives_its_lines_back(tmp_path: Path) -> None:
    with served(tmp_path, pace=0.2) as app:
        batch = begun(app, [line("a", "one two three four five six seven eight nine ten")])
        assert eventually(lambda: scribe(app).asked != [])
    assert kept(tmp_path) == set()
    with served(tmp_path) as app:
        app.start()
        assert ended(app, batch)["request_counts"] == {"total": 1, "completed": 1, "failed": 0}


def test_a_file_that_was_written_before_a_crash_is_not_written_twice(app: App) -> None:
    batch = ended(app, begun(app, [line("a")]))
    name = batch["output_file_id"]
    content = asked(app, "GET", f"/v1/files/{name}/content").body
    again = app.stores.uploads.files.add("x", "batch_output", b"other", None, name)
    assert again.id == name
    assert asked(app, "GET", f"/v1/files/{name}/content").body == content


# What is wrong with a request


def test_a_server_without_state_says_what_to_do(tmp_path: Path) -> None:
    alone = App(small_manifest([PARROT]), tmp_path)
    body = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}
    for method, path in (("POST", PATH), ("GET", PATH), ("GET", f"{PATH}/x"), ("POST", f"{PATH}/x/cancel")):
        answer = asked(alone, method, path, body)
        assert (answer.status, answer.error["code"]) == (503, "no_state")
        assert "--state" in answer.error["message"]


def test_a_wrong_request_names_its_parameter(app: App) -> None:
    good = {
        "input_file_id": upload(app, "in.jsonl", line("a"), "batch").json["id"],
        "endpoint": CHAT,
        "completion_window": "24h",
    }
    other = upload(app, "in.txt", "x").json["id"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"input_file_id": None}, "input_file_id"),
        ({"input_file_id": "file-nobody"}, "input_file_id"),
        ({"input_file_id": other}, "input_file_id"),
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"endpoint": "/v1/images/edits"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"surprise": 1}, "surprise"),
    ]
    for change, param in wrong:
        answer = asked(
            app, "POST", PATH, {name: value for name, value in {**good, **change}.items() if value is not None}
        )
        assert (answer.status, answer.error["param"]) == (400, param), answer.error
    assert asked(app, "GET", PATH).json["data"] == []
    for query, param in (({"limit": "0"}, "limit"), ({"after": "x"}, "after"), ({"order": "asc"}, "order")):
        answer = asked(app, "GET", PATH, query=query)
        assert (answer.status, answer.error["param"]) == (400, param)
    assert asked(app, "GET", f"{PATH}/nobody").status == 404
    assert asked(app, "POST", f"{PATH}/nobody/cancel").status == 404


def test_the_same_key_makes_one_batch(app: App) -> None:
    first = begun(app, [line("a")], idempotency_key="k")
    body = {name: first[name] for name in ("input_file_id", "endpoint", "completion_window")}
    assert asked(app, "POST", PATH, {**body, "idempotency_key": "k"}).json["id"] == first["id"]
    answer = asked(app, "POST", PATH, {**body, "metadata": {"a": "b"}, "idempotency_key": "k"})
    assert (answer.status, answer.error["param"]) == (400, "idempotency_key")


def test_files_of_answers_expire_when_they_should(app: App) -> None:
    batch = begun(app, [line("a")], output_expires_after={"anchor": "created_at", "seconds": 3600})
    file = asked(app, "GET", f"/v1/files/{ended(app, batch)['output_file_id']}").json
    assert file["expires_at"] - file["created_at"] == 3600


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.binary(max_size=30)
        | st.text(max_size=30).map(str.encode)
        | st.dictionaries(
            st.sampled_from(["custom_id", "method", "url", "body", "x"]),
            st.none()
            | st.integers()
            | st.sampled_from(["POST", CHAT, "a"])
            | st.dictionaries(st.just("stream"), st.booleans()),
        ).map(lambda value: json.dumps(value).encode()),
        max_size=6,
    )
)
def test_every_line_of_any_file_is_a_request_or_has_a_fault(lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    found = list(read(content, CHAT))
    assert [each.number for each in found] == [
        number for number, each in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1) if each.strip()
    ]
    for each in found:
        assert isinstance(each, Line) or (isinstance(each, Unreadable) and each.fault.line == each.number)


JSON = st.none() | st.integers() | st.text(max_size=8) | st.dictionaries(st.text(max_size=4), st.text(max_size=4))
FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after", "idempotency_key", "x")


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from([PATH, f"{PATH}/x/cancel"]),
    right=st.booleans(),
    change=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3),
)
def test_whatever_is_sent_the_answer_is_no_5xx(app: App, path: str, right: bool, change: dict[str, Any]) -> None:
    good = {"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h"} if right else {}
    assert asked(app, "POST", path, {**good, **change}).status in (400, 404)
