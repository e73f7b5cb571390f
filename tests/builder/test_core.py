"""The core from text to store with a plugin of the user's own: load, resolve, plan, execute, and again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsbuild import facts, history, lock, registry, sources
from lsbuild.api import Item
from lsbuild.errors import SpecError
from lsbuild.plan import Plan, compile_items, plan
from lsbuild.running.engine_local import Local
from lsbuild.running.execute import execute
from lsbuild.running.monitor import Silent
from lsbuild.running.store import Store
from lsbuild.spec.load import load

SPEC = """\
name: own
plugins: [plugins/echo_plugin]
models:
  late: {type: llm, provider: "inline::echo", config: {needs: [early], n: 1}}
  early: {type: llm, provider: "inline::echo", source: docs/*.md}
"""


class Project:
    """A folder with a spec, documents and a local plugin; the cache lies beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "docs").mkdir()
        (root / "docs" / "faq.md").write_text("question")
        shutil.copytree(Path(__file__).parent / "outside" / "echo_plugin", root / "plugins" / "echo_plugin")
        (root / "spec.yaml").write_text(SPEC)
        self.store = Store(root / ".cache")

    def build(self) -> tuple[list[tuple[str, str]], dict[str, Path]]:
        """One build: (step, reason) in order, and the outputs."""
        loaded = load(self.root / "spec.yaml", target="host", environ={})
        known = registry.find(loaded.spec.plugins, self.root)
        items = [Item("models", name, model.provider, model, self.root) for name, model in loaded.spec.models.items()]
        plugins = {item.provider: known.plugin(item.provider) for item in items}
        uris = [uri for item in items for uri in plugins[item.provider].sources(item).values()]
        fetched = sources.resolve(
            uris, root=self.root, lock=lock.Lock(), cache=self.store.root, offline=True, locked=False, monitor=Silent()
        )
        steps = [step for each in compile_items(items, plugins, fetched).values() for step in each.steps]
        previous = history.read(self.store.root, loaded.path, loaded.target)
        planned: Plan = plan(steps, facts=facts.gather(steps), known=self.store.has, previous=previous)
        outputs = execute(planned, self.store, Silent(), Local(2, known.paths))
        history.write(self.store.root, loaded.path, loaded.target, planned.records)
        return [(each.step.name, each.reason) for each in planned.steps], outputs


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "echo_plugin"]:
        del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A plugin is imported once in a process: other tests must not see this copy, nor this one theirs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    _forget()
    yield Project(tmp_path)
    _forget()


def test_a_build_and_what_runs_again_after_each_change(project: Project) -> None:
    reasons, outputs = project.build()
    assert reasons == [("models.early", "not built before"), ("models.late", "not built before")]
    late = json.loads((outputs["models.late"] / "echo.json").read_text())
    assert list(late["inputs"]) == ["early"]
    assert len(late["inputs"]["early"]["sources"]["source"]) == 1

    assert project.build() == ([("models.early", "cached"), ("models.late", "cached")], outputs)

    (project.root / "docs" / "faq.md").write_text("answer")
    assert project.build()[0] == [
        ("models.early", "docs/faq.md changed"),
        ("models.late", "needs models.early, which runs again"),
    ]

    (project.root / "spec.yaml").write_text(SPEC.replace("n: 1", "n: 2"))
    assert project.build()[0] == [("models.early", "cached"), ("models.late", "options changed: n")]

    with (project.root / "plugins" / "echo_plugin" / "steps.py").open("a") as stream:
        stream.write("# another line\n")
    assert [reason for _, reason in project.build()[0]] == [
        "echo_plugin changed",
        "echo_plugin changed; needs models.early, which runs again",
    ]


def test_what_a_plugin_finds_wrong_stops_the_build(project: Project) -> None:
    (project.root / "spec.yaml").write_text(SPEC.replace("n: 1", "bad: true"))
    with pytest.raises(SpecError, match=r"models\.late\.config\.bad: is bad"):
        project.build()
