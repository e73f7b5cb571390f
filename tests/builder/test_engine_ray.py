"""Steps on a real Ray cluster of two workers on this machine: same output as here, errors kept, lost workers survived."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lsbuild import facts
from lsbuild.api import GateError, Source, SourceFile, Step, StepError
from lsbuild.plan import plan
from lsbuild.running import ray_task
from lsbuild.running.engine import open_engine
from lsbuild.running.engine_local import Local
from lsbuild.running.engine_ray import Ray
from lsbuild.running.execute import execute
from lsbuild.running.monitor import JsonLines, Silent
from lsbuild.running.store import Store
from ray_cluster import ray_cluster

pytest.importorskip("ray", reason="Ray is not installed: pip install 'lsbuild[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

OUTSIDE = Path(__file__).parent / "outside"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as made:
        yield made


@pytest.fixture
def engine(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(OUTSIDE)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    made = open_engine("ray", 2, (OUTSIDE,))
    yield made
    made.close()


def spread(name: str, run: str, **rest: Any) -> Step:
    return Step(name=name, run=f"echo_plugin.steps:{run}", spread=True, **rest)


def run(store: Store, engine: Any, *steps: Step, monitor: Any = None) -> dict[str, Path]:
    planned = plan(steps, facts=facts.gather(steps), known=store.has, previous={})
    return execute(planned, store, monitor or Silent(), engine)


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode & 0o777, path.read_text())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_outputs_are_those_of_the_local_engine(tmp_path: Path, engine: Any) -> None:
    document = tmp_path / "a.md"
    document.write_text("hello")
    file = SourceFile("a.md", document, hashlib.sha256(b"hello").hexdigest(), 5)
    steps = [
        spread("a", "echo", options={"x": 1}, sources={"doc": Source("a.md", (file,))}),
        spread("b", "echo", needs={"up": "a"}),
        Step("c", "echo_plugin.steps:echo", needs={"one": "a", "two": "b"}),
    ]
    far = Store(tmp_path / "far")
    lines = tmp_path / "events"
    with lines.open("w") as text:
        there = run(far, engine, *steps, monitor=JsonLines(text))
    here = run(Store(tmp_path / "near"), Local(2, (OUTSIDE,)), *steps)
    assert {name: tree(folder) for name, folder in there.items()} == {
        name: tree(folder) for name, folder in here.items()
    }
    assert far.log("a").read_text() == "a word on stdout\na word on stderr\n"
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert any(event["event"] == "progress" and event.get("step") == "a" for event in told)


def test_an_error_keeps_its_class_and_its_words(tmp_path: Path, engine: Any) -> None:
    with pytest.raises(GateError) as error:
        run(Store(tmp_path), engine, spread("g", "gate"))
    assert error.value.where.startswith("g")


def test_a_killed_worker_costs_only_its_step(tmp_path: Path, engine: Any) -> None:
    store = Store(tmp_path / "cache")
    started = tmp_path / "started"
    threading.Thread(target=_kill_worker, args=(started,), daemon=True).start()
    done = run(store, engine, spread("s", "sleep", options={"seconds": 3, "started": str(started)}))
    assert tree(done["s"])
    assert (tmp_path / "killed").read_text() != ""


def test_a_lost_machine_costs_only_its_steps(tmp_path: Path, engine: Any, cluster: Any) -> None:
    lost = cluster.add_node(num_cpus=1, resources={"lost": 1})
    begun = threading.Event()

    class Cut(Silent):
        def started(self, step: str, reason: str) -> None:  # noqa: ARG002
            begun.set()

    def cut() -> None:
        begun.wait(30)
        time.sleep(2)
        cluster.remove_node(lost, allow_graceful=False)

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    steps = [spread(f"s{index}", "sleep", options={"seconds": 4, "index": index}) for index in range(3)]
    done = run(Store(tmp_path / "cache"), engine, *steps, monitor=Cut())
    thread.join(60)
    assert sorted(done) == ["s0", "s1", "s2"]


def test_a_worker_with_other_code_is_refused(tmp_path: Path) -> None:
    order = ray_task.Order("echo_plugin.steps:echo", {}, {}, {"lsbuild.suggest": "0" * 64}, {}, ())
    (event,) = ray_task.perform(order, (), ())
    assert event["last"]["kind"] == "StepError"
    assert "the code of lsbuild.suggest" in event["last"]["what"]
    order = ray_task.Order("echo_plugin.steps:echo", {}, {}, {}, {"msgspec": "0.0"}, ())
    (event,) = ray_task.perform(order, (), ())
    assert "instead of 0.0" in event["last"]["what"]


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(StepError, match=r"cannot join the Ray cluster at 127\.0\.0\.1:1") as error:
        Ray(Local(1), 1, ())
    assert "ray start --head" in error.value.hint


def _kill_worker(started: Path) -> None:
    """Kill the Ray worker above the process that wrote its id to ``started``, once."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (started.exists() and started.read_text()):
        time.sleep(0.05)
    step = int(started.read_text())
    parent = int(Path(f"/proc/{step}/stat").read_text().rpartition(")")[2].split()[1])
    (started.parent / "killed").write_text(Path(f"/proc/{parent}/cmdline").read_text())
    os.kill(parent, signal.SIGKILL)
