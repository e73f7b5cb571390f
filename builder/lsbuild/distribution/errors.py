"""What goes wrong between us and a registry, before anybody knows whether it was a push or a fetch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lsbuild.errors import LsbuildError


class DistributionError(LsbuildError):
    """A registry refused something, is out of reach, or does not keep to the protocol. Never leaves this library's callers."""


@contextmanager
def told_as(kind: type[LsbuildError], where: str) -> Iterator[None]:
    """Turn DistributionError into the class that the user's command has for it."""
    try:
        yield
    except DistributionError as error:
        raise kind(error.what, where=error.where or where, hint=error.hint) from error
