"""What happens around a store's search: a question may be rewritten before, and what is found ranked again after it.

The search routes and agents both come here. It knows neither HTTP nor providers, and without models around a store it
only passes the search on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Delta, Fusion, Hit, Host, Inference, Reranker, Sampling, SearchMode, VectorIO

DEEPER = 4
"""A reranker reads this many times as many passages as are wanted ..."""
DEEPEST = 100
"""... but no more than this, or as many as are wanted."""
REWRITE_SECONDS = 10.0
REWRITE_TOKENS = 96
MOST_QUERIES = 3
LONGEST_QUERY = 200
"""Characters of a rewritten query; a longer line is no query."""

Ask = Callable[[str, int, float], list[Hit]]
"""A store asked one query: ``(query, limit, threshold)``."""

_EARLIER = 6
_EARLIER_CHARACTERS = 500
_INSTRUCTIONS = (
    "You write queries for a search in documents. Turn the question of the user into one to three short queries, each on "
    "a line of its own. Use words that a document with the answer would use. Say what words such as it or that one stand "
    "for. Do not answer the question and write nothing else."
)
_MARK = re.compile(r"""^(?:[-*•>]+|\(?\d{1,2}[.):])?\s*(?:(?:search )?quer(?:y|ies)\s*\d*\s*:)?\s*""", re.IGNORECASE)


class Ranking(Struct, frozen=True):
    """How a store is asked to rank: the arguments of ``VectorIO.search``, and whether a reranker has the last word.

    ``threshold`` is the lowest score of a hit, as it is in the end. ``rerank`` None leaves it to the store.
    """

    mode: SearchMode | None = None
    fusion: Fusion | None = None
    threshold: float = 0.0
    rerank: bool | None = None


class Models(Struct, frozen=True):
    """The models around a store's search by name, "" for none; each is opened by the first search that needs it."""

    host: Host | None = None
    rerank: str = ""
    rewrite: str = ""

    def reranker(self) -> Reranker | None:
        """The opened reranker, if there is one."""
        return self.host.get("rerank", self.rerank) if self.host is not None and self.rerank else None

    def queries(self, question: str, context: Context, earlier: Sequence[Mapping[str, Any]] = ()) -> tuple[str, ...]:
        """One to MOST_QUERIES queries for ``question``, which ``earlier`` messages may explain.

        The question itself where no model rewrites. Else it costs at most REWRITE_TOKENS tokens and about
        REWRITE_SECONDS; where the model fails or says nothing of use, the question is the query, and the span says why
        in ``lsbuild.rewrite.failed``.
        """
        if self.host is None or not self.rewrite or not question.strip():
            return (question,)
        with context.watch.span("rewrite_query") as span:
            try:
                model: Inference = self.host.get("inference", self.rewrite)
                queries = _rewritten(model, question, context, earlier)
            except ApiError as error:
                context.check()  # the request's own deadline is not to be mended by another query
                span.set(**{"lsbuild.rewrite.failed": error.code or str(error.status)})
                return (question,)
            span.set(
                **({"lsbuild.rewrite.queries": len(queries)} if queries else {"lsbuild.rewrite.failed": "no_query"})
            )
        return queries or (question,)


def models_around(service: Service | None, host: Host) -> Models:
    """What the store's service says about them in its config: ``rerank`` and ``rewrite``."""
    config = service.config if service is not None else {}
    return Models(host, config.get("rerank", ""), config.get("rewrite", ""))


def search(
    port: VectorIO,
    queries: Sequence[str],
    context: Context,
    limit: int,
    ranking: Ranking,
    filters: Mapping[str, Any] | None = None,
    reranker: Reranker | None = None,
) -> list[Hit]:
    """The best hits of all queries, best first; each passage once, with its best score.

    With a reranker the store gives more hits than are wanted, and the score of each is the reranker's, for the query
    that found it best. A query that is too long for the reranker leaves the store's own order.
    """

    def ask(query: str, limit: int, threshold: float) -> list[Hit]:
        return port.search(
            query,
            context,
            limit=limit,
            mode=ranking.mode,
            filters=filters,
            threshold=threshold,
            fusion=ranking.fusion,
        )

    if reranker is not None:
        return _reranked(ask, queries, context, limit, ranking.threshold, reranker)
    if len(queries) == 1:
        return ask(queries[0], limit, ranking.threshold)
    return [hit for hit, _ in _best(ask, queries, context, limit, ranking.threshold)]


def _best(ask: Ask, queries: Sequence[str], context: Context, limit: int, threshold: float) -> list[tuple[Hit, str]]:
    """The best ``limit`` hits of all queries, each with the query that gave it its score."""
    best: dict[str, tuple[Hit, str]] = {}
    for query in queries:
        context.check()
        for hit in ask(query, limit, threshold):
            if hit.chunk_id not in best or hit.score > best[hit.chunk_id][0].score:
                best[hit.chunk_id] = (hit, query)
    return sorted(best.values(), key=lambda found: -found[0].score)[:limit]


def _reranked(
    ask: Ask, queries: Sequence[str], context: Context, limit: int, threshold: float, reranker: Reranker
) -> list[Hit]:
    """The threshold is the reranker's: the store's own scores are of another kind and drop nothing."""
    deep = max(limit, min(limit * DEEPER, DEEPEST))
    with context.watch.span("rerank") as span:
        found = _best(ask, queries, context, deep, 0.0)
        span.set(**{"lsbuild.rerank.candidates": len(found)})
        try:
            hits = [hit for query in dict.fromkeys(queries) for hit in _scored(reranker, query, found, context)]
        except ApiError as error:
            if error.code != "context_length_exceeded":
                raise
            span.set(**{"lsbuild.rerank.skipped": error.code})
            hits = [hit for hit, _ in found]
    kept = [hit for hit in hits if hit.score >= threshold]
    return sorted(kept, key=lambda hit: -hit.score)[:limit]


def _scored(reranker: Reranker, query: str, found: Sequence[tuple[Hit, str]], context: Context) -> Iterator[Hit]:
    """The hits that ``query`` found best, with the reranker's scores; it reads what was embedded: heading and text."""
    own = [hit for hit, asked in found if asked == query]
    if own:
        texts = [f"{hit.heading}\n{hit.text}" if hit.heading else hit.text for hit in own]
        for hit, score in zip(own, reranker.score(query, texts, context).values, strict=True):
            yield replace(hit, score=score)


def _rewritten(
    model: Inference, question: str, context: Context, earlier: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    boxed = replace(context, deadline=min(context.deadline, time.monotonic() + REWRITE_SECONDS))
    sampling = Sampling(temperature=0.0, max_tokens=REWRITE_TOKENS)
    return queries_of(model.chat(Chat(messages=_messages(question, earlier), sampling=sampling), boxed))


def _messages(question: str, earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    told = [(message["role"], message.get("content")) for message in earlier]
    lines = [
        f"{role}: {' '.join(content.split())[:_EARLIER_CHARACTERS]}"
        for role, content in told
        if role in ("user", "assistant") and isinstance(content, str) and content.strip()
    ][-_EARLIER:]
    before = "Conversation so far:\n" + "\n".join(lines) + "\n\n" if lines else ""
    return [
        {"role": "system", "content": _INSTRUCTIONS},
        {"role": "user", "content": f"{before}Question: {question}\nQueries:"},
    ]


def queries_of(deltas: Iterator[Delta]) -> tuple[str, ...]:
    """The queries in an answer, one for each line; generating stops when there are enough, and a cut line is none."""
    text, cut = "", False
    for delta in deltas:
        text += delta.text
        cut = cut or delta.finish == "length"
        if "\n" in delta.text and len(_queries(text.split("\n")[:-1])) >= MOST_QUERIES:
            cut = True
            break
    close = getattr(deltas, "close", None)
    if close is not None:
        close()
    lines = text.split("\n")
    return tuple(_queries(lines[:-1] if cut else lines)[:MOST_QUERIES])


def _queries(lines: Iterable[str]) -> list[str]:
    """Lines without the marks of lists and quotes; what introduces a list, repeats, or goes on and on is left out."""
    found: dict[str, str] = {}
    for line in lines:
        query = _MARK.sub("", line.strip()).strip(" \t\"'`*“”")
        if any(map(str.isalnum, query)) and not query.endswith(":") and len(query) <= LONGEST_QUERY:
            found.setdefault(query.casefold(), query)
    return list(found.values())
