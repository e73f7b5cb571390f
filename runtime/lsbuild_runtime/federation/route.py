"""`inline::route`: a model that other models stand in for; it decides who is asked and passes their words on unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from lsbuild_runtime.counting import cannot_count, count
from lsbuild_runtime.federation import breaker
from lsbuild_runtime.federation.attempt import Try, Work, refusal
from lsbuild_runtime.federation.candidate import Candidate
from lsbuild_runtime.federation.candidate import Settings as CandidateSettings
from lsbuild_runtime.federation.course import Course, Port
from lsbuild_runtime.federation.order import groups, ordered
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Chat, Completion, Delta, Embedded, Host

T = TypeVar("T")
_USUAL_ANSWER = 256
"""Tokens that an answer without a limit is reckoned with before it is there."""
_CHARACTERS = 4
"""Characters that are reckoned as one token."""


class Settings(Struct, frozen=True):
    """What the manifest says about one route. ``hedge`` in seconds; None never starts two candidates at a time."""

    candidates: tuple[CandidateSettings, ...]
    hedge: float | None = None
    sticky: bool = True
    breaker: breaker.Limits = breaker.Limits()


class Route:
    """The candidates of one model, whatever they do. Safe for use from several threads.

    ``port`` opens a candidate (``Host.get``): one that cannot be opened has failed like one that breaks.
    """

    def __init__(self, name: str, settings: Settings, port: Port, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self.port = port
        self._hedge = settings.hedge
        self._sticky = settings.sticky
        self.candidates = tuple(Candidate(each, settings.breaker, clock) for each in settings.candidates)
        self._groups = groups(self.candidates)

    def answer(self, work: Work[T], context: Context) -> Iterator[T]:
        """What the first candidate that answers says.

        Failures before its first item are silent; ApiError when nobody is left, and at once for a fault of the request
        itself. A failure after the first item is raised as one.
        """
        key = context.affinity if self._sticky else ""
        course = Course(self._name, ordered(self._groups, key), work, context)
        if self._hedge is None:
            attempt = in_turn(course, self.port)
        else:
            from lsbuild_runtime.federation.race import raced  # threads and queues that most routes do without

            attempt = raced(course, self.port, self._hedge)
        return attempt.items()


def in_turn(course: Course[T], port: Port) -> Try[T]:
    """The first attempt that answers, one after the other on this thread; raises what Course says when there is none."""
    while (attempt := course.next()) is not None:
        try:
            attempt.tail = attempt.begin(port)
        except Cancelled:
            attempt.abandon()
            raise
        except Exception as error:  # whatever a candidate does wrong, another may do right
            course.failed(attempt, error)
            continue
        except BaseException:
            attempt.abandon()
            raise
        if not (attempt.refuses and course.leads("safety")):
            attempt.answers()
            return attempt
        course.failed(attempt, refusal(attempt))
    raise course.error()


class InferenceRoute(Route):
    """Implements ports.Inference."""

    def chat(self, chat: Chat, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        work: Work[Delta] = Work(
            "inference",
            lambda port, within: port.chat(chat, within),
            lambda: chat_size(chat),
            _used,
            _refused,
            whole=not chat.stream,
        )
        yield from self.answer(work, context)

    def complete(self, completion: Completion, context: Context) -> Iterator[Delta]:
        """See ports.Inference."""
        tokens = completion.sampling.max_tokens or _USUAL_ANSWER
        prompt = completion.prompt
        size = len(prompt) // _CHARACTERS if isinstance(prompt, str) else len(prompt)
        work: Work[Delta] = Work(
            "inference",
            lambda port, within: port.complete(completion, within),
            lambda: size + tokens * completion.sampling.n,
            _used,
            _refused,
            whole=not completion.stream,
        )
        yield from self.answer(work, context)

    def count(self, chat: Chat, context: Context) -> int:
        """See ports.Counter: the word of the first candidate that can count, in the order of the list."""
        refusal: ApiError | None = None
        for candidate in self.candidates:
            try:
                return count(self.port("inference", candidate.model), chat, context)
            except ApiError as error:
                refusal = refusal or error
        raise refusal or cannot_count()


class EmbeddingsRoute(Route):
    """Implements ports.Embeddings over candidates that are the same model; ``width`` is the length of its vectors, 0: any."""

    width = 0

    def embed(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], context: Context, dimensions: int | None = None
    ) -> Embedded:
        """See ports.Embeddings. A candidate whose vectors have another length has failed."""
        width = dimensions or self.width

        def ask(port: Any, within: Context) -> Iterator[Embedded]:
            found: Embedded = port.embed(inputs, within, dimensions)
            if width and any(len(vector) != 4 * width for vector in found.vectors):
                lengths = sorted({len(vector) // 4 for vector in found.vectors})
                raise ApiError(
                    502,
                    f"its vectors have {lengths} numbers, not {width}: it is another model",
                    type="server_error",
                    code="upstream_error",
                )
            yield found

        def size() -> int:
            return sum(len(each) // _CHARACTERS + 1 if isinstance(each, str) else len(each) for each in inputs)

        work: Work[Embedded] = Work(
            "embeddings", ask, size, lambda found: found.tokens, lambda _found: False, whole=True
        )
        (found,) = self.answer(work, context)
        return found


def open_inference(service: Service, root: Path, host: Host) -> InferenceRoute:  # noqa: ARG001 - the entry's shape
    """The entry for language models."""
    return InferenceRoute(service.name, settings_of(service), host.get)


def open_embeddings(service: Service, root: Path, host: Host) -> EmbeddingsRoute:  # noqa: ARG001 - the entry's shape
    """The entry for embedding models."""
    route = EmbeddingsRoute(service.name, settings_of(service), host.get)
    route.width = int(service.metadata.get("embedding_dimension", 0))
    return route


def settings_of(service: Service) -> Settings:
    """The service's config as Settings; the compile half has checked it."""
    return msgspec.convert(service.config, Settings)


def chat_size(chat: Chat) -> int:
    """About how many tokens a chat costs: a token for four characters, and what the answers may have."""
    characters = sum(_characters(message.get("content")) for message in chat.messages)
    return characters // _CHARACTERS + (chat.sampling.max_tokens or _USUAL_ANSWER) * chat.sampling.n


def _characters(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(str(part.get("text", ""))) for part in content or () if isinstance(part, Mapping))


def _used(delta: Delta) -> int:
    return delta.usage.prompt + delta.usage.completion if delta.usage is not None else 0


def _refused(delta: Delta) -> bool:
    return delta.finish == "content_filter"
