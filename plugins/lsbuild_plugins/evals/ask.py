"""The step that opens what will ship, asks every question, and writes ``eval.json``; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec

from lsbuild.api import Json, Manifest, Service, SourceError, StepContext, StepError
from lsbuild.evals import measure
from lsbuild.evals.questions import Question, load
from lsbuild.evals.result import Place, Result, write
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import SCHEMA, Server
from lsbuild_runtime.ports import Chat, Inference, Sampling, SearchMode, VectorIO
from lsbuild_runtime.retrieve import Ranking, models_around, search
from lsbuild_runtime.services import Services


def run(context: StepContext) -> Mapping[str, Json]:
    """Options ``services`` (all that is needed), ``store`` or ``agent``, ``k``, ``mode``, ``measures``.

    Source ``questions``; the inputs are named by the path that each has in the bundle. The facts are the measures.
    """
    (file,) = context.sources["questions"].files if len(context.sources["questions"].files) == 1 else (None,)
    if file is None:
        raise SourceError("questions must be one file", where=context.sources["questions"].uri)
    questions = load(file.location, file.path)
    services = tuple(msgspec.convert(each, Service) for each in context.options["services"])
    with _opened(services, context.inputs) as host:
        result = _store(host, questions, context) if context.options["store"] else _agent(host, questions, context)
    write(result, context.out)
    return {"questions": result.questions, **result.metrics}


def _store(host: Services, questions: tuple[Question, ...], context: StepContext) -> Result:
    name, k, wanted = context.options["store"], context.options["k"], context.options["mode"]
    port: VectorIO = host.get("vector_io", name)
    service = host.find(("vector_io",), name)
    reranker = models_around(service, host).reranker()  # as the search route does; it rewrites only on request
    own = wanted or (service.config.get("search", "") if service else "")
    modes: dict[str, SearchMode | None] = {own: wanted}
    modes |= {mode: mode for mode in get_args(SearchMode) if mode != own}
    done = iter(range(1, 1 + len(questions) * len(modes)))

    def ask(mode: SearchMode | None, question: str) -> list[Place]:
        context.progress(next(done), len(questions) * len(modes), question)
        with _explained(question):
            hits = search(port, (question,), _unhurried(), k, Ranking(mode=mode), reranker=reranker)
        return [
            Place(
                file=hit.filename,
                text=hit.text,
                heading=hit.heading,
                first=hit.line_start,
                last=hit.line_end,
                score=hit.score,
            )
            for hit in hits
        ]

    searches = {mode: partial(ask, given) for mode, given in modes.items()}
    return measure.store(name, questions, searches, k, context.options["measures"])


def _agent(host: Services, questions: tuple[Question, ...], context: StepContext) -> Result:
    name = context.options["agent"]
    port: Inference = host.get("agents", name)
    done = iter(range(1, 1 + len(questions)))

    def ask(question: str) -> measure.Said:
        context.progress(next(done), len(questions), question)
        chat = Chat(messages=[{"role": "user", "content": question}], sampling=Sampling(temperature=0.0), stream=False)
        with _explained(question):
            deltas = list(port.chat(chat, _unhurried()))
        cited = tuple(
            Place(file=note.filename, text=note.quote, heading=note.heading, first=note.line_start, last=note.line_end)
            for delta in deltas
            for note in delta.annotations
        )
        return measure.Said("".join(delta.text for delta in deltas), cited)

    return measure.agent(name, questions, ask)


@contextmanager
def _opened(services: tuple[Service, ...], inputs: Mapping[str, Path]) -> Iterator[Services]:
    """The services in a temporary root where every folder lies as it will in the bundle."""
    with TemporaryDirectory(prefix="lsbuild-eval-") as temporary:
        root = Path(temporary, "root")
        for path, folder in inputs.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(folder.absolute(), target_is_directory=True)
        manifest = Manifest(
            schema=SCHEMA,
            name="eval",
            lsbuild="",
            target="",
            platform="",
            services=services,
            server=Server(),
            files=(),
        )
        yield Services(manifest, root, Path(temporary, "state"))


@contextmanager
def _explained(question: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise StepError(f"a question was refused: {error.message}", where=question) from error


def _unhurried() -> Any:
    return Context(deadline=float("inf"))
