"""In which order candidates are tried: as listed; neighbours with weights share their place by chance or by hash; pure."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Weighted(Protocol):
    """What can be put in order. ``weight`` None stands alone at its place."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def weight(self) -> float | None:
        """Its share among its neighbours."""
        ...


W = TypeVar("W", bound=Weighted)


def groups(candidates: Sequence[W]) -> tuple[tuple[W, ...], ...]:
    """``candidates`` cut where a weight is missing: each group is one place in the order."""
    found: list[list[W]] = []
    for candidate in candidates:
        if candidate.weight is not None and found and found[-1][-1].weight is not None:
            found[-1].append(candidate)
        else:
            found.append([candidate])
    return tuple(tuple(group) for group in found)


def ordered(grouped: Sequence[Sequence[W]], key: str, chance: Callable[[], float] = random.random) -> list[W]:
    """All candidates in the order in which one request tries them.

    Within a group each comes first with the probability of its weight (Efraimidis and Spirakis, "Weighted random sampling
    with a reservoir", 2006). With a ``key`` the chance is its hash (rendezvous hashing): the same key gets the same order,
    and when a candidate comes or goes only its own share moves.
    """
    result: list[W] = []
    for group in grouped:
        if len(group) == 1:
            result.append(group[0])
            continue
        draws = [(hashed(candidate.model, key) if key else 1.0 - chance(), candidate) for candidate in group]
        result += [candidate for _, candidate in sorted(((_score(u, each), each) for u, each in draws), key=_first)]
    return result


def hashed(model: str, key: str) -> float:
    """A number in (0, 1] that depends on both texts alone."""
    digest = hashlib.blake2b(f"{model}\0{key}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return (int.from_bytes(digest, "big") + 1) / 2.0**56


def _score(draw: float, candidate: Weighted) -> float:
    return -math.log(draw) / (candidate.weight or 1.0)


def _first(pair: tuple[float, object]) -> float:
    return pair[0]
