"""Text -> vectors, by running the serve half of the embedding model that will ship; it knows that half by its name only."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from lsbuild.api import Service, StepError
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.ports import Embeddings, Open


class _Alone:
    """The host of a service that is opened at build: there are no other services."""

    def get(self, api: str, name: str) -> Any:
        raise StepError(f"a model that needs another service ({api}/{name}) cannot embed documents at build")

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


def vector(model: Embeddings, text: str, where: str) -> tuple[bytes, int]:
    """The float32 little-endian vector of one text and its number of tokens.

    One text at a time: padding to batch mates costs more than batching saves on a CPU, and some quantised graphs give
    a text another vector in company than the one a query gets alone.
    """
    context = Context(deadline=float("inf"))
    try:
        result = model.embed([text], context)
    except ApiError as error:
        raise StepError(
            f"the embedding model refused a passage: {error.message}",
            where=where,
            hint="Lower chunk.tokens of the vector store if the passage is too long for the model.",
        ) from error
    return result.vectors[0], result.tokens
