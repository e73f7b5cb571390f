"""Text -> vectors, by running the serve half of the embedding model that will ship; it knows that half by its name only."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, cast

import msgspec
from msgspec import Struct

from lsbuild.api import Memo, Service, StepError
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Embeddings, Open


class _Alone:
    """The host of a service that is opened at build: there are no other services."""

    def get(self, api: str, name: str) -> Any:
        raise StepError(f"a model that needs another service ({api}/{name}) cannot embed documents at build")

    def find(self, apis: Iterable[str], name: str) -> None:
        """There are none."""

    def state(self, name: str) -> Path:
        raise StepError(f"a model that keeps state ({name}) cannot embed documents at build")


@contextmanager
def opened(service: Service, folder: Path) -> Iterator[Embeddings]:
    """Open ``service`` in a temporary root where ``service.path`` is ``folder``, as it will be in the bundle."""
    module, _, attribute = service.entry.partition(":")
    entry = cast("Open", getattr(importlib.import_module(module), attribute))
    with TemporaryDirectory(prefix="lsbuild-") as root:
        place = Path(root, service.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder.absolute(), target_is_directory=True)
        yield cast("Embeddings", entry(service, Path(root), _Alone()))


class Vector(Struct, frozen=True, array_like=True):
    """The vector of one text, float32 little-endian, and the text's number of tokens."""

    vector: bytes
    tokens: int


class Embedder:
    """Gives vectors as remembered, else from the model of ``service``, which is opened when it is first needed.

    One text at a time. Measured with the 8-bit MiniLM on two cores: 256 texts in one call cost the same CPU time for each
    as one by one (90 and 89 ms at 256 tokens; the bytes are the same), and some quantised graphs give a text another
    vector in company than the one a query gets alone.
    """

    def __init__(self, service: Service, folder: Path, memo: Memo) -> None:
        self._service = service
        self._folder = folder
        self._memo = memo
        self._model: Embeddings | None = None
        self._stack = ExitStack()
        self.embedded = 0

    def get(self, text: str, where: str) -> Vector:
        """The vector of ``text``, which stands at ``where`` (for the error when the model refuses it)."""
        key = f"text\0{text}"
        known = self._memo.get(key)
        if known is not None:
            return msgspec.msgpack.decode(known, type=Vector)
        if self._model is None:
            self._model = self._stack.enter_context(opened(self._service, self._folder))
        found = vector(self._model, text, where)
        self._memo.put(key, msgspec.msgpack.encode(found))
        self.embedded += 1
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def vector(model: Embeddings, text: str, where: str) -> Vector:
    """What the model makes of one text; StepError when it refuses it."""
    context = Context(deadline=float("inf"))
    try:
        result = model.embed([text], context)
    except ApiError as error:
        raise StepError(
            f"the embedding model refused a passage: {error.message}",
            where=where,
            hint="Lower chunk.tokens of the vector store if the passage is too long for the model.",
        ) from error
    return Vector(result.vectors[0], result.tokens)
