"""Bundles with workflows over small services: a scripted model, three tools, a shelf of documents, a shield."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lsbuild.spec.workflow import Workflow
from lsbuild_plugins.workflow.plugin import compiled
from lsbuild_runtime.app import App
from lsbuild_runtime.http import Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.shielding import Finding, Verdict, Where
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


def open_kit(service: Service, root: Path, host: Host) -> Kit:
    """Entry of the tools."""
    return Kit()


def open_strict(service: Service, root: Path, host: Host) -> Strict:
    """Entry of the shield."""
    return Strict()


TOOLS = Service(api="tool_runtime", name="kit", provider="inline::kit", entry="flows:open_kit")
SHIELD = Service(api="safety", name="strict", provider="inline::strict", entry="flows:open_strict")


def services_of(root: Path, name: str, spec: Mapping[str, Any]) -> tuple[Service, Service]:
    """The services of a workflow, whose file is written below ``root``."""
    folder = root / "workflows" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workflow.json").write_bytes(msgspec.json.encode(compiled(name, Workflow.model_validate(spec))))
    runs = Service(
        api="workflows", name=name, provider="inline::workflow", entry="lsbuild_runtime.workflows.service:open_workflow",
        path=f"workflows/{name}",
    )  # fmt: skip
    model = Service(
        api="agents", name=name, provider="inline::workflow", entry="lsbuild_runtime.workflows.model:open_model",
        metadata={"model_type": "llm"},
    )  # fmt: skip
    return runs, model


def flow_app(
    root: Path,
    specs: Mapping[str, Mapping[str, Any]],
    state: Path | None = None,
    more: Sequence[Service] = (),
    **server: Any,
) -> App:
    """An application over workflows and the small services."""
    own = [service for name, spec in specs.items() for service in services_of(root, name, spec)]
    manifest = small_manifest((PARROT, SHELF, HELPER, TOOLS, SHIELD, *more, *own), **server)
    return App(manifest, root, state=state)


def kit(app: App) -> Kit:
    """The tools of an application."""
    found: Kit = app.services.get("tool_runtime", "kit")
    return found
