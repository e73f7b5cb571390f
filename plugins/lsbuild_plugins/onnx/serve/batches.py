"""Which inputs of an encoder share a run; arithmetic only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

BATCH_TOKENS = 4096
"""Tokens in one run: bounds the memory of a batch and the wait for a cancelled request."""


def batches(lengths: Sequence[int], rows: int, *, invariant: bool) -> Iterator[list[int]]:
    """Places of inputs that run together, at most ``rows``: equal lengths, so that nothing is padded, shortest first.

    Each runs alone unless the graph is ``invariant``: gives a row what it gives it alone.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[place]
        fits = batch and lengths[batch[0]] == length and (len(batch) + 1) * length <= BATCH_TOKENS and len(batch) < rows
        if batch and not (fits and invariant):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
