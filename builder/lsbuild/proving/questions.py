"""The questions that every target shares: each service once, and requests that must be refused; it boots nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from lsbuild.api import Check, Manifest, Service
from lsbuild.proving.answers import Answer
from lsbuild.proving.client import Client
from lsbuild.secret_names import named_in

Ask = Callable[[str], Iterable[Check]]
Keep = Callable[[Service, Answer], None]
_TEXTS = ["a short text", "How do I bake bread?", "The server listens on port 8321."]
_QUERIES = ["What is this about?", "Which command starts the server?"]


def questions(manifest: Manifest, keep: Keep = lambda *_: None) -> Ask:
    """What to ask a booted artifact with this manifest; ``keep`` is given every answer, to compare it with others."""

    def ask(base_url: str) -> Iterator[Check]:
        client = Client(base_url)
        yield _check("health", lambda: client.get("/v1/health")["status"] == "OK")
        for service in manifest.services:
            yield from _asked(client, service, manifest, keep)
        yield _check("routes are listed", lambda: len(client.get("/v1/inspect/routes")["data"]) > 5)
        models = ("inference", "embeddings", "rerank", "agents")
        named = {service.name for service in manifest.services if service.api in models}
        yield _check("models are listed", lambda: named == {model["id"] for model in client.get("/v1/models")["data"]})
        yield _check(
            "unknown model is refused",
            lambda: client.status("/v1/chat/completions", b'{"model":"no-such","messages":[]}') in (400, 404),
        )
        yield _check("broken JSON is refused", lambda: client.status("/v1/embeddings", b'{"model":') == 400)

    return ask


@dataclass(frozen=True, slots=True)
class First:
    """The request that a cold start is measured to."""

    words: str
    path: str
    body: dict[str, str]


def first_request(manifest: Manifest) -> First | None:
    """One search, which embeds its query; or one embedding where no store can be asked; or nothing."""
    local = [each for each in manifest.services if not _leaves(each, manifest) and not list(named_in(each.config))]
    for service in local:
        if service.api == "vector_io":
            return First("embedding and search", f"/v1/vector_stores/{service.name}/search", {"query": _QUERIES[0]})
    for service in local:
        if service.api == "embeddings":
            return First("embedding", "/v1/embeddings", {"model": service.name, "input": _TEXTS[0]})
    return None


def _asked(client: Client, service: Service, manifest: Manifest, keep: Keep) -> Iterator[Check]:
    name = f"{service.api} {service.name}"
    completes = service.api == "inference" and service.metadata.get("chat") is False
    question = _complete if completes else _QUESTIONS.get(service.api)
    if _leaves(service, manifest):
        yield Check.skipped(name, "not asked: it would leave this machine")
    elif secrets := sorted(set(named_in(service.config))):
        yield Check.skipped(name, f"not asked: it needs {', '.join(secrets)}")
    elif _acts(service, manifest):
        yield Check.skipped(name, "not asked: it could do something with its tools")
    elif question:
        yield _check(name, partial(_said, question, client, service, keep))


def _said(question: Question, client: Client, service: Service, keep: Keep) -> str:
    said, answer = question(client, service)
    keep(service, answer)
    return said


def can_be_asked(service: Service, manifest: Manifest) -> bool:
    """Whether a question about ``service`` stays on its machine, needs no secret, and does nothing by its tools."""
    return not (_leaves(service, manifest) or _acts(service, manifest) or any(named_in(service.config)))


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


Question = Callable[[Client, Service], tuple[str, Answer]]
"""Asks one service; gives what to tell people, and the answer as it is compared. Raises what speaks against it."""


def _embed(client: Client, service: Service) -> tuple[str, Answer]:
    answer = client.post("/v1/embeddings", {"model": service.name, "input": _TEXTS})
    vectors = [row["embedding"] for row in answer["data"]]
    norms = [math.sqrt(sum(x * x for x in vector)) for vector in vectors]
    if any(abs(norm - 1) > 1e-3 for norm in norms):
        raise AssertionError(f"vectors are not of unit length: {norms}")
    return f"{len(vectors[0])} dimensions", Answer("vectors", vectors)


def _rank(client: Client, service: Service) -> tuple[str, Answer]:
    body = {"model": service.name, "query": "How is bread made?", "documents": _TEXTS}
    results = client.post("/v1/rerank", body)["results"]
    scores = {result["index"]: result["relevance_score"] for result in results}
    if sorted(scores) != [0, 1, 2] or not all(0 <= score <= 1 for score in scores.values()):
        raise AssertionError(f"these are no scores of three documents: {results}")
    said = f"{len(scores)} scores, best {max(scores.values()):.3f}"
    return said, Answer("scores", [scores[index] for index in sorted(scores)])


def _chat(client: Client, service: Service) -> tuple[str, Answer]:
    message = {"role": "user", "content": _QUERIES[0]}
    body = {"model": service.name, "messages": [message], "max_tokens": 48, "temperature": 0}
    choice = client.post("/v1/chat/completions", body)["choices"][0]
    text = choice["message"]["content"] or ""
    if not text.strip():
        raise AssertionError("the answer is empty")
    return text.strip().replace("\n", " ")[:80], Answer("text", [text])


def _complete(client: Client, service: Service) -> tuple[str, Answer]:
    body = {"model": service.name, "prompt": "This is", "max_tokens": 16, "temperature": 0}
    choice = client.post("/v1/completions", body)["choices"][0]
    return f"{choice['text'][:60]!r} (no chat template)", Answer("text", [choice["text"]])


def _search(client: Client, service: Service) -> tuple[str, Answer]:
    found = [client.post(f"/v1/vector_stores/{service.name}/search", {"query": query})["data"] for query in _QUERIES]
    if not all(found):
        raise AssertionError("nothing was found")
    hits = [[_passage(hit) for hit in each] for each in found]
    return f"{len(found[0])} passages, best from {found[0][0]['filename']}", Answer("hits", hits)


def _passage(hit: dict[str, Any]) -> str:
    """A passage by its file and its text, which are the same wherever the index was built from the same documents."""
    return f"{hit['filename']}: {' '.join(part.get('text', '') for part in hit['content'])}"


def _moderate(client: Client, service: Service) -> tuple[str, Answer]:
    results = client.post("/v1/moderations", {"model": service.name, "input": _QUERIES[0]})["results"]
    if len(results) != 1:
        raise AssertionError(f"these are no results of one text: {results}")
    return f"{len(results[0]['categories'])} categories", Answer("value", [results[0]["categories"]])


def _describe(client: Client, service: Service) -> tuple[str, Answer]:
    steps = client.get(f"/v1/workflows/{service.name}")["steps"]
    return (f"{len(steps)} steps" if steps else ""), Answer("value", [steps])


def _list_tools(client: Client, service: Service) -> tuple[str, Answer]:
    found = [tool["name"] for tool in client.get(f"/v1/tools?toolgroup_id={quote(service.name)}")["data"]]
    if found != service.metadata.get("tools", found):
        raise AssertionError(f"it lists {found}, the manifest has {service.metadata['tools']}")
    return ", ".join(found), Answer("value", [found])


_QUESTIONS: dict[str, Question] = {
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
