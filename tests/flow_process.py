"""A process of its own for tests that kill one: runs a workflow and says which tools were called, until it is killed.

python flow_process.py FOLDER GATE          FOLDER/bundle holds the workflow ``flow``
"""

from __future__ import annotations

import sys
from pathlib import Path

from flows import kit, written_app
from runtime_asking import asked


def main(folder: Path, gate: str) -> None:
    """Open the gate or close it, start what was left, begin a run where there is none, and print what is called."""
    app = written_app(folder / "bundle", ("flow",), folder / "state")
    gates = kit(app).gates

    def log(text: str) -> None:
        with (folder / "calls.log").open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")

    gates.log = log
    if gate == "closed":
        gates.gate.clear()
    app.start()
    if not (folder / "state" / "workflows" / "runs.sqlite").exists():
        body = {"input": {"text": "go", "list": ["a", "b"]}, "background": True}
        sys.stdout.write(asked(app, "POST", "/v1/workflows/flow/runs", body).json["id"] + "\n")
        sys.stdout.flush()
    if gate == "closed":
        gates.waiting.wait(20)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
