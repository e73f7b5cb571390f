"""Executing a plan: real processes that work, fail, hang and are killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from lsbuild import facts, lock, sources
from lsbuild.api import GateError, Step, StepError
from lsbuild.errors import SpecError, StoreError
from lsbuild.plan import Plan, plan
from lsbuild.running.engine_local import Local
from lsbuild.running.execute import execute
from lsbuild.running.monitor import JsonLines, Silent
from lsbuild.running.store import Store

OUTSIDE = Path(__file__).parent / "outside"


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(OUTSIDE)


def step(name: str, run: str = "echo", **rest: Any) -> Step:
    return Step(name=name, run=f"echo_plugin.steps:{run}", **rest)


def planned(store: Store, *steps: Step) -> Plan:
    return plan(steps, facts=facts.gather(steps), known=store.has, previous={})


def run(store: Store, *steps: Step, workers: int = 2) -> dict[str, Path]:
    return execute(planned(store, *steps), store, Silent(), Local(workers))


def test_outputs_flow_from_step_to_step(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("hello")
    store = Store(tmp_path / "cache")
    fetched = sources.resolve(
        ["a.md"], root=tmp_path, lock=lock.Lock(), cache=store.root, offline=True, locked=False, monitor=Silent()
    )
    first = step("a", options={"x": 1}, sources={"doc": fetched["a.md"]})
    done = run(store, step("b", needs={"up": "a"}), first)
    told = json.loads((done["b"] / "echo.json").read_text())
    assert told["inputs"]["up"] == {
        "options": {"x": 1},
        "inputs": {},
        "sources": {"doc": [fetched["a.md"].files[0].sha256]},
    }
    assert (done["a"] / "below" / "tool").stat().st_mode & 0o777 == 0o555
    meta = store.meta(planned(store, first).steps[0].key)
    assert meta.facts["inputs"] == 0
    assert meta.facts["pid"] != os.getpid()
    assert meta.cpu_seconds > 0
    assert 5 << 20 < meta.rss < 500 << 20
    assert store.log("a").read_text() == "a word on stdout\na word on stderr\n"


def test_a_second_run_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    before = run(store, step("a"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert run(store, step("a")) == before


def test_progress_reaches_the_monitor(tmp_path: Path) -> None:
    store = Store(tmp_path)
    text = io.StringIO()
    execute(planned(store, step("a")), store, JsonLines(text), Local(1))
    events = [json.loads(line) for line in text.getvalue().splitlines()]
    assert events[0]["event"] == "started"
    assert events[0]["reason"] == "not built before"
    last = next(event for event in events if event["event"] == "progress" and event["label"] == "whole")
    assert (last["step"], last["done"], last["total"]) == ("a", 2, 2)
    assert events[-1]["event"] == "finished"
    assert events[-1]["cached"] is False


def test_steps_that_do_not_need_each_other_run_together(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    (tmp_path / "meet").mkdir()
    options = [{"folder": str(tmp_path / "meet"), "me": name} for name in ("one", "two")]
    run(store, step("one", "meet", options=options[0]), step("two", "meet", options=options[1]), workers=2)


def test_an_error_of_a_library_becomes_one_line_and_a_log(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StepError) as caught:
        run(store, step("good"), step("bad", "fail", needs={"x": "good"}), step("never", needs={"x": "bad"}))
    error = caught.value
    assert error.where == "bad"
    assert error.what == "RuntimeError: the tensor is upside down"
    assert str(store.log("bad")) in error.hint
    assert "Traceback" not in str(error)
    assert "Traceback" in store.log("bad").read_text()
    assert [each.step for each in store.objects()] == ["good"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_errors_of_lsbuild_keep_their_class(tmp_path: Path) -> None:
    with pytest.raises(GateError) as caught:
        run(Store(tmp_path), step("embed.gate", "gate"))
    assert str(caught.value) == "embed.gate: embed: cosine 0.91, at least 0.95 is wanted\n  Use int8."
    with pytest.raises(SpecError, match=r"models\.a: the tokenizer has no chat template"):
        run(Store(tmp_path), step("s", "spec"))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("full", StoreError, "the step wrote 1,000 so far"),
        ("die", StepError, r"was killed by SIGKILL[\s\S]*memory"),
        ("link", StoreError, "may only write plain files"),
        ("not_json", StepError, "TypeError: Object of type object is not JSON serializable"),
        ("no_such_function", StepError, "cannot be loaded"),
    ],
)
def test_other_ways_to_fail(tmp_path: Path, name: str, kind: type[Exception], message: str) -> None:
    from lsbuild.errors import LsbuildError

    store = Store(tmp_path)
    with pytest.raises(LsbuildError, match=message) as caught:
        run(store, step("s", name))
    if name != "no_such_function":
        assert type(caught.value) is kind
    assert store.objects() == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_failure_stops_what_still_runs(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    started = tmp_path / "started"
    before = time.monotonic()
    with pytest.raises(StepError, match="upside down"):
        run(store, step("slow", "sleep", options={"seconds": 60, "started": str(started)}), step("bad", "fail"))
    assert time.monotonic() - before < 50
    if started.exists():
        assert not alive(int(started.read_text()))
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


BUILD = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background with SIGINT ignored
sys.path.insert(0, {outside!r})
from lsbuild import facts
from lsbuild.api import Step
from lsbuild.running.engine_local import Local
from lsbuild.running.execute import execute
from lsbuild.running.monitor import Silent
from lsbuild.plan import plan
from lsbuild.running.store import Store
store = Store(Path({cache!r}))
steps = [Step("s", "echo_plugin.steps:sleep", options={options!r})]
execute(plan(steps, facts=facts.gather(steps), known=store.has, previous={{}}), store, Silent(), Local(2))
"""


def build(tmp_path: Path, seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    """A build in a process of its own, and the id of the process that runs its step."""
    started = tmp_path / "started"
    started.unlink(missing_ok=True)
    options = {"seconds": seconds, "started": str(started)}
    script = BUILD.format(outside=str(OUTSIDE), cache=str(tmp_path / "cache"), options=options)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE)
    for _ in range(1200):
        if started.exists() and started.read_text():
            return process, int(started.read_text())
        time.sleep(0.05)
    raise AssertionError("the step did not start")


def alive(pid: int) -> bool:
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except FileNotFoundError:
            return False
        time.sleep(0.05)
    return True


def test_ctrl_c_stops_the_steps_and_leaves_the_store_clean(tmp_path: Path) -> None:
    process, worker = build(tmp_path, 1200)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)  # its step sleeps for longer
    assert b"KeyboardInterrupt" in told
    assert not alive(worker)
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_a_killed_build_takes_its_steps_along_and_the_next_one_continues(tmp_path: Path) -> None:
    process, worker = build(tmp_path, 120)
    process.kill()
    process.communicate()
    assert not alive(worker)
    store = Store(tmp_path / "cache")
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    assert store.objects() == []
    run(store, step("s", "sleep", options={"seconds": 0}))
    assert len(store.objects()) == 1


def test_a_second_build_waits_for_the_first_and_takes_its_object(tmp_path: Path) -> None:
    first, _ = build(tmp_path, 3)
    store = Store(tmp_path / "cache")
    options = {"seconds": 3, "started": str(tmp_path / "started")}
    text = io.StringIO()
    execute(planned(store, step("s", "sleep", options=options)), store, JsonLines(text), Local(1))
    first.communicate()
    assert first.returncode == 0
    assert [json.loads(line)["cached"] for line in text.getvalue().splitlines()] == [True]


def test_a_damaged_object_is_built_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = run(store, step("a"))["a"]
    (place / "echo.json").chmod(0o644)
    (place / "echo.json").write_text("{")
    again = planned(store, step("a"))
    assert not again.steps[0].cached
    run(store, step("a"))
    assert json.loads((place / "echo.json").read_text())["inputs"] == {}
