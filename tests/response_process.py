"""A process of its own for tests that kill one: begins a response and says when its model waits in the second step.

python response_process.py FOLDER background|stream [STATE]

STATE is a file that holds the service of API ``state`` as JSON; without it SQLite in FOLDER keeps the response.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec

from lsbuild_runtime.manifest import Service
from responding import STATE, Actor, opened, respond

SCRIPT = 'call note {"text": "first"}\nsay Half ; wait ; call note {"text": "second"}\nsay Done'


def main(folder: Path, kind: str, state: Service) -> None:
    """Begin it, print "ready", then wait to be killed."""
    with opened(folder, state) as app:
        actor: Actor = app.services.get("inference", "actor")
        fields = {"background": True} if kind == "background" else {"stream": True}
        threading.Thread(target=respond, args=(app, SCRIPT, "noted"), kwargs=fields, daemon=True).start()
        if not actor.waiting.wait(20):
            raise SystemExit("the model was not asked")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    given = msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=Service) if len(sys.argv) > 3 else STATE
    main(Path(sys.argv[1]), sys.argv[2], given)
