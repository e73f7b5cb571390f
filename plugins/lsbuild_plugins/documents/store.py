"""What the compile half of every vector store answers alike: what it checks, refers to and reads; it compiles nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from lsbuild.api import Item, Problem, config_problems
from lsbuild_plugins.documents.around import models_around
from lsbuild_plugins.documents.steps import chunk_problems, source_uris, spec_of


class DocumentStore:
    """Base of plugins for ``vector_stores``; ``config`` is the type of the provider's own settings."""

    kinds = ("vector_stores",)
    config: type[BaseModel]

    def check(self, item: Item) -> Iterable[Problem]:
        """Faults in ``config`` and in the sizes of passages."""
        spec = spec_of(item)
        yield from chunk_problems(spec)
        yield from config_problems(self.config, spec.config)

    def refers(self, item: Item) -> Iterable[tuple[str, str]]:
        """The embedding model, and the models around its search."""
        return (("models", spec_of(item).embedding), *models_around(spec_of(item)))

    def sources(self, item: Item) -> Mapping[str, str]:
        """One local name for each entry of ``sources``."""
        return source_uris(item)
