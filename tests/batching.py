"""What tests of batches share: a model that writes down what it is asked, uploads of lines, and waiting."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from live_server import eventually
from lsbuild_runtime.app import App
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Delta, Host
from runtime_asking import asked
from small_services import LETTERS, PARROT, Parrot, small_manifest
from uploading import upload

CHAT = "/v1/chat/completions"


class Scribe(Parrot):
    """A parrot that notes each question in a file before it answers; "die" ends the process, "busy N" is refused N times."""

    def __init__(self, log: Path, pace: float) -> None:
        super().__init__(pace)
        self._log = log

    @property
    def asked(self) -> list[str]:
        """What was asked so far, by whatever process."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        text = str(chat.messages[-1]["content"])
        with self._log.open("a") as log:
            log.write(f"{text}\n")
        if text.startswith("busy") and self.asked.count(text) <= int(text.split()[1]):
            raise ApiError(429, "busy", type="rate_limit_error", retry_after=0)
        yield from super().chat(chat, context)


def open_scribe(service: Service, root: Path, host: Host) -> Scribe:
    """Entry of a Scribe, which writes beside the bundle."""
    return Scribe(root.parent / "asked.txt", float(service.config["pace"]))


def scribe(pace: float) -> Service:
    """The service."""
    return Service(
        api="inference", name="scribe", provider="p", entry="batching:open_scribe", config={"pace": pace}
    )  # fmt: skip


@contextmanager
def served(folder: Path, pace: float = 0.0, clock: Callable[[], float] = time.time) -> Iterator[App]:
    """An application with its state in ``folder/state``; its workers have stopped at the end."""
    root = folder / "bundle"
    root.mkdir(exist_ok=True)
    app = App(small_manifest([PARROT, LETTERS, scribe(pace)]), root, state=folder / "state", clock=clock)
    try:
        yield app
    finally:
        app.close()


def line(custom_id: str, text: str = "", model: str = "scribe", **body: Any) -> str:
    """One request for a chat."""
    asks = {"model": model, "messages": [{"role": "user", "content": text or custom_id}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asks})


def begun(app: App, lines: Sequence[str], endpoint: str = CHAT, **body: Any) -> Any:
    """The new batch over a file of ``lines``."""
    file = upload(app, "in.jsonl", "\n".join(lines), "batch").json["id"]
    wanted = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h", **body}
    answer = asked(app, "POST", "/v1/batches", wanted)
    assert answer.status == 200, answer.body
    return answer.json


def now(app: App, batch: Any) -> Any:
    """The batch as it is now."""
    return asked(app, "GET", f"/v1/batches/{batch['id']}").json


def ended(app: App, batch: Any, seconds: float = 30.0) -> Any:
    """The batch when it has ended."""
    over = {"completed", "failed", "cancelled", "expired"}
    assert eventually(lambda: now(app, batch)["status"] in over, seconds), now(app, batch)
    return now(app, batch)


def answers(app: App, file_id: str) -> dict[str | None, Any]:
    """The lines of a file of answers, by their custom_id."""
    data = asked(app, "GET", f"/v1/files/{file_id}/content").body
    lines = [json.loads(each) for each in data.splitlines()]
    assert len({each["id"] for each in lines}) == len(lines)
    return {each["custom_id"]: each for each in lines}
