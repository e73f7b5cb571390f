"""Finds out what an artifact is, lets its target boot it, and asks it the questions that every target shares."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

from lsbuild import inspection
from lsbuild.api import Check, Manifest, Service, State
from lsbuild.secret_names import named_in

Ask = Callable[[str], Iterable[Check]]
_TIMEOUT_S = 120.0


def verify(artifact: Path) -> Iterator[Check]:
    """Yield checks as they are made. Raises VerifyError when ``artifact`` is none of ours."""
    found = inspection.inspect(artifact)
    yield from found.target.verify(artifact, questions(found.manifests[0]))


def to_dict(checks: Sequence[Check]) -> dict[str, Any]:
    """For ``--json``; ``ok`` is False only for what was looked at and found wrong."""
    listed = [{"name": check.name, "ok": check.ok, "state": check.state, "detail": check.detail} for check in checks]
    return {"ok": all(check.ok for check in checks), "counts": counts(checks), "checks": listed}


def counts(checks: Iterable[Check]) -> dict[State, int]:
    """How many checks came to each state; all four are there."""
    found = Counter(check.state for check in checks)
    return {state: found[state] for state in get_args(State)}


def summary(checks: Sequence[Check]) -> str:
    """One line for people: what was proved, and what was not."""
    return ", ".join(f"{count} {state}" for state, count in counts(checks).items() if count or state == "proved")


def questions(manifest: Manifest) -> Ask:
    """What to ask a booted artifact with this manifest: every service once, and two requests that must be refused."""

    def ask(base_url: str) -> Iterator[Check]:
        client = _Client(base_url)
        yield _check("health", lambda: client.get("/v1/health")["status"] == "OK")
        yield _check("routes are listed", lambda: len(client.get("/v1/inspect/routes")["data"]) > 5)
        models = ("inference", "embeddings", "rerank", "agents")
        named = {service.name for service in manifest.services if service.api in models}
        yield _check("models are listed", lambda: named == {model["id"] for model in client.get("/v1/models")["data"]})
        for service in manifest.services:
            question = _QUESTIONS.get(service.api)
            if _leaves(service, manifest):
                yield Check.skipped(f"{service.api} {service.name}", "not asked: it would leave this machine")
            elif secrets := sorted(set(named_in(service.config))):
                yield Check.skipped(f"{service.api} {service.name}", f"not asked: it needs {', '.join(secrets)}")
            elif _acts(service, manifest):
                yield Check.skipped(f"{service.api} {service.name}", "not asked: it could do something with its tools")
            elif service.api == "inference" and service.metadata.get("chat") is False:
                yield _check(f"{service.api} {service.name}", partial(_complete, client, service))
            elif question:
                yield _check(f"{service.api} {service.name}", partial(question, client, service))
        yield _check(
            "unknown model is refused",
            lambda: client.status("/v1/chat/completions", b'{"model":"no-such","messages":[]}') in (400, 404),
        )
        yield _check("broken JSON is refused", lambda: client.status("/v1/embeddings", b'{"model":') == 400)

    return ask


def _leaves(service: Service, manifest: Manifest) -> bool:
    """Whether an answer of ``service`` may come from another machine: its own, or that of a service it needs."""
    by_key = {f"{each.api}/{each.name}": each for each in manifest.services}
    seen: set[str] = set()  # a judge may stand before the very model that it asks
    asked = [service]
    while asked:
        each = asked.pop()
        if each.provider.startswith("remote::"):
            return True
        needs = set(each.needs) - seen
        seen |= needs
        asked += [by_key[need] for need in sorted(needs) if need in by_key]
    return False


def _acts(service: Service, manifest: Manifest) -> bool:
    """Whether a question could make ``service`` call a tool: its own, or one of a service that it needs."""
    if service.api != "agents":
        return False
    needed = [each for each in manifest.services if f"{each.api}/{each.name}" in service.needs]
    return any(each.api in ("tool_runtime", "workflows") or _acts(each, manifest) for each in needed)


def _embed(client: _Client, service: Service) -> str:
    answer = client.post("/v1/embeddings", {"model": service.name, "input": ["a short text", "another one"]})
    vectors = [row["embedding"] for row in answer["data"]]
    norms = [math.sqrt(sum(x * x for x in vector)) for vector in vectors]
    if any(abs(norm - 1) > 1e-3 for norm in norms):
        raise AssertionError(f"vectors are not of unit length: {norms}")
    return f"{len(vectors[0])} dimensions"


def _rank(client: _Client, service: Service) -> str:
    body = {"model": service.name, "query": "What is this about?", "documents": ["a short text", "another one"]}
    results = client.post("/v1/rerank", body)["results"]
    scores = [result["relevance_score"] for result in results]
    if sorted(result["index"] for result in results) != [0, 1] or not all(0 <= score <= 1 for score in scores):
        raise AssertionError(f"these are no scores of two documents: {results}")
    return f"{len(scores)} scores, best {scores[0]:.3f}"


def _chat(client: _Client, service: Service) -> str:
    message = {"role": "user", "content": "What is this about?"}
    body = {"model": service.name, "messages": [message], "max_tokens": 48, "temperature": 0}
    choice = client.post("/v1/chat/completions", body)["choices"][0]
    text = choice["message"]["content"] or ""
    if not text.strip():
        raise AssertionError("the answer is empty")
    return text.strip().replace("\n", " ")[:80]


def _complete(client: _Client, service: Service) -> str:
    body = {"model": service.name, "prompt": "This is", "max_tokens": 16, "temperature": 0}
    choice = client.post("/v1/completions", body)["choices"][0]
    return f"{choice['text'][:60]!r} (no chat template)"


def _search(client: _Client, service: Service) -> str:
    hits = client.post(f"/v1/vector_stores/{service.name}/search", {"query": "What is this about?"})["data"]
    if not hits:
        raise AssertionError("nothing was found")
    return f"{len(hits)} passages, best from {hits[0]['filename']}"


def _moderate(client: _Client, service: Service) -> str:
    results = client.post("/v1/moderations", {"model": service.name, "input": "What is this about?"})["results"]
    if len(results) != 1:
        raise AssertionError(f"these are no results of one text: {results}")
    return f"{len(results[0]['categories'])} categories"


def _describe(client: _Client, service: Service) -> str:
    answer = client.get(f"/v1/workflows/{service.name}")
    return f"{len(answer['steps'])} steps" if answer["steps"] else ""


def _list_tools(client: _Client, service: Service) -> str:
    found = [tool["name"] for tool in client.get(f"/v1/tools?toolgroup_id={quote(service.name)}")["data"]]
    if found != service.metadata.get("tools", found):
        raise AssertionError(f"it lists {found}, the manifest has {service.metadata['tools']}")
    return ", ".join(found)


_QUESTIONS: dict[str, Callable[[_Client, Service], str]] = {
    "embeddings": _embed,
    "rerank": _rank,
    "inference": _chat,
    "agents": _chat,
    "vector_io": _search,
    "safety": _moderate,
    "tool_runtime": _list_tools,
    "workflows": _describe,
}


def _check(name: str, question: Callable[[], bool | str]) -> Check:
    # Whatever goes wrong while asking is the answer to the question, so it becomes a failed check, not a crash.
    try:
        answer = question()
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}"[:300])
    return Check(name, answer is not False, answer if isinstance(answer, str) else "")


class _Client:
    """The few HTTP calls that the questions need."""

    def __init__(self, base_url: str) -> None:
        import urllib3

        self._base = base_url.rstrip("/")
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)

    def get(self, path: str) -> Any:
        return self._json("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        return self._json("POST", path, json.dumps(body).encode())

    def status(self, path: str, body: bytes) -> int:
        headers = {"content-type": "application/json"}
        return int(self._pool.request("POST", self._base + path, body=body, headers=headers).status)

    def _json(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"content-type": "application/json"}
        response = self._pool.request(method, self._base + path, body=body, headers=headers)
        if response.status != 200:
            raise AssertionError(f"{method} {path} gave {response.status}: {response.data[:200]!r}")
        return json.loads(response.data)
