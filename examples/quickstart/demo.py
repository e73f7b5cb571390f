"""The quickstart from start to end: compile the spec, boot the artifact, ask it a question over HTTP, print the answer.

It uses the command line and the standard library only, as any user of an artifact could.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
QUESTIONS = (
    "Which command prints the JSON Schema of the spec?",
    "Which user does the image run as?",
    "How many km are 10 miles?",
)


def compile_spec() -> dict[str, Any]:
    """Run ``lsbuild`` and return its report; its progress goes to the screen."""
    command = [sys.executable, "-m", "lsbuild", str(HERE / "spec.yaml")]
    subprocess.run(command, check=True)
    done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def boot(artifact: Path) -> tuple[subprocess.Popen[str], str]:
    """Start ``./run`` on a free port and return the process and its address, which it prints when it listens."""
    log = artifact.with_name(f"{artifact.name}.log")
    with log.open("w") as errors:
        command = [str(artifact / "run"), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if "http://" not in line:
        sys.exit(f"the artifact did not start (exit code {process.wait()}); {log} says why")
    return process, line[line.index("http://") :].split()[0]


def ask(address: str, question: str) -> dict[str, Any]:
    """One request to the agent; returns the response, with what was called and said."""
    body = {"model": "helper", "input": question, "temperature": 0, "include": ["file_search_call.results"]}
    request = urllib.request.Request(  # noqa: S310 - the address is our own server's
        f"{address}/v1/responses", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        response: dict[str, Any] = json.load(answer)
    return response


def told(question: str, response: dict[str, Any]) -> bool:
    """Print an answer with what it rests on; False when it rests on nothing."""
    print(f"\n  Q  {question}")
    founded = False
    for item in response["output"]:
        if item["type"] == "file_search_call":
            print(f"     file_search {item['queries'][0]!r} -> {len(item['results'])} passages")
            continue
        if item["type"] == "mcp_call":
            founded = True
            print(f"     {item['server_label']}.{item['name']} {item['arguments']} -> {item['output']}")
            continue
        for part in item.get("content", ()):
            print(f"  A  {part['text']}")
            for note in part["annotations"]:
                founded = True
                print(f"     {note['filename']}, lines {note['line_start']}-{note['line_end']}")
    return founded


def main() -> None:
    """Compile, boot, ask, print; exits 0 only when every answer rests on a passage or on a call."""
    report = compile_spec()
    artifact = Path(report["artifact"]["path"])
    started = time.monotonic()
    process, address = boot(artifact)
    print(f"\nserving at {address} after {time.monotonic() - started:.2f} s")
    try:
        founded = [told(question, ask(address, question)) for question in QUESTIONS]
    finally:
        process.terminate()
        process.wait(timeout=30)
    print(f"\nartifact  {artifact}\nsha256    {report['artifact']['sha256']}")
    for name, size in report["components"].items():
        print(f"  {size / 1e6:8.2f} MB  {name}")
    sys.exit(0 if all(founded) else 1)


if __name__ == "__main__":
    main()
