"""Bundles with workflows over small services: a scripted model, three tools, a shelf of documents, a shield."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lsbuild_runtime.app import App
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.safety import Finding, Verdict, Where
from scripted import TEXT, Tools
from small_services import HELPER, PARROT, SHELF, small_manifest


class Gates:
    """What the tools of a workflow do in tests: they count, fail as often as they are told, and wait at a gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        """Set as soon as somebody stands before the closed gate."""
        self.faults: list[Exception] = []
        self.log: Callable[[str], object] = lambda _: None
        """Told of every call that is made."""

    def note(self, arguments: Mapping[str, Any], context: Context) -> str:  # noqa: ARG002
        """Says its text in capitals."""
        self.log(str(arguments["text"]))
        return str(arguments["text"]).upper()

    def flaky(self, arguments: Mapping[str, Any], context: Context) -> str:  # noqa: ARG002
        """Raises the next fault."""
        if self.faults:
            raise self.faults.pop(0)
        return "at last"

    def slow(self, arguments: Mapping[str, Any], context: Context) -> str:
        """Waits at the gate."""
        self.log(f"slow {arguments['text']}")
        while not self.gate.wait(0.005):
            self.waiting.set()
            context.check()
        return f"slow {arguments['text']}"


class Kit(Tools):
    """The tools of Gates, and ``pay``, which a person has to allow."""

    def __init__(self) -> None:
        self.gates = Gates()
        super().__init__(
            note=self.gates.note, flaky=self.gates.flaky, slow=self.gates.slow, pay=lambda *_: "paid"
        )  # fmt: skip
        self.described("note", TEXT, trusted=True).described("slow", TEXT).described("pay", approval=True)


class Strict:
    """A shield that blocks the word bad and redacts the word secret."""

    def check(self, text: str, where: Where, context: Context) -> Verdict:  # noqa: ARG002
        """See shielding.Safety."""
        place = text.find("bad")
        found = Finding("no-bad", "manners", "block", place, place + 3, "bad words are not allowed")
        redacted = Finding("secret", "secrets", "redact", 0, 0, "") if "secret" in text else None
        return Verdict(
            tuple(each for each in (redacted, found if place >= 0 else None) if each is not None),
            text.replace("secret", "[secret]"),
            found if place >= 0 else None,
        )


DURABLE: Mapping[str, Any] = {
    "input": {"type": "object"},
    "steps": {
        "first": {"tool": "kit.note", "arguments": {"text": "first {{input.text}}"}},
        "each": {
            "map": "{{input.list}}",
            "concurrency": 1,
            "steps": {"one": {"tool": "kit.note", "arguments": {"text": "{{item}}"}}},
        },
        "stop": {"tool": "kit.slow", "arguments": {"text": "{{steps.each.text}}"}},
        "last": {"tool": "kit.note", "arguments": {"text": "last {{steps.stop.text}}"}},
    },
}
"""A workflow that stands before the gate when half of it is done."""


def open_kit(service: Service, root: Path, host: Host) -> Kit:
    """Entry of the tools."""
    return Kit()


def open_strict(service: Service, root: Path, host: Host) -> Strict:
    """Entry of the shield."""
    return Strict()


TOOLS = Service(api="tool_runtime", name="kit", provider="inline::kit", entry="flows:open_kit")
SHIELD = Service(api="safety", name="strict", provider="inline::strict", entry="flows:open_strict")


def write(root: Path, name: str, spec: Mapping[str, Any]) -> None:
    """Compile a workflow into the bundle below ``root``."""
    from lsbuild.spec.workflow import Workflow  # a process that serves what was written does without the builder
    from lsbuild_plugins.workflow.plugin import compiled

    folder = root / "workflows" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workflow.json").write_bytes(msgspec.json.encode(compiled(name, Workflow.model_validate(spec))))


def services_of(name: str) -> tuple[Service, Service]:
    """The services of a workflow."""
    runs = Service(
        api="workflows", name=name, provider="inline::workflow", entry="lsbuild_runtime.workflows.service:open_workflow",
        path=f"workflows/{name}",
    )  # fmt: skip
    model = Service(
        api="agents", name=name, provider="inline::workflow", entry="lsbuild_runtime.workflows.model:open_model",
        metadata={"model_type": "llm"}, needs=(f"workflows/{name}",),
    )  # fmt: skip
    return runs, model


def flow_app(
    root: Path, specs: Mapping[str, Mapping[str, Any]], state: Path | None = None, more: Sequence[Service] = ()
) -> App:
    """An application over workflows and the small services."""
    for name, spec in specs.items():
        write(root, name, spec)
    return written_app(root, tuple(specs), state, more)


def written_app(root: Path, names: Sequence[str], state: Path | None, more: Sequence[Service] = ()) -> App:
    """The same over workflows that are written already."""
    own = [service for name in names for service in services_of(name)]
    return App(small_manifest((PARROT, SHELF, HELPER, TOOLS, SHIELD, *more, *own)), root, state=state)


def kit(app: App) -> Kit:
    """The tools of an application."""
    found: Kit = app.services.get("tool_runtime", "kit")
    return found
