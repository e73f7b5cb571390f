"""Turn samples into padded batches of token ids, weighted targets and looks; it knows the tokenizer and nothing of the network."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from network import GUIDED, Look
from samples import Sample
from tokenizers import Tokenizer
from torch import Tensor

# The first word, the passage number and the start of a sentence are decisions; the rest of a copy only follows them.
WEIGHTS = {"first": 4.0, "cite": 4.0, "start": 4.0, "arg": 3.0, "tail": 1.5, "fixed": 0.5, "end": 1.0}
KINDS = list(WEIGHTS)
ROWS = 32


@dataclass(slots=True)
class Encoded:
    ids: list[int]
    targets: list[tuple[int, int, int]]  # (position to predict from, target id, kind)
    looks: dict[str, list[tuple[int, int, int, int]]]  # head -> (row, low, high, passage)


@dataclass(slots=True)
class Batch:
    ids: Tensor  # (batch, length)
    at: Tensor  # flat positions to predict from
    targets: Tensor
    weights: Tensor
    kinds: Tensor
    looks: dict[str, Look]


def encode(sample: Sample, tokenizer: Tokenizer) -> Encoded:
    """Token ids with the sample's character spans turned into token positions."""
    encoding = tokenizer.encode(sample.text, add_special_tokens=False)
    ids, offsets = encoding.ids, encoding.offsets
    token_at = [0] * (len(sample.text) + 1)
    for n, (low, high) in enumerate(offsets):
        for place in range(low, high):
            token_at[place] = n  # the last token of a character is its word; a mark that shares it comes before
    kind_at = [-1] * (len(sample.text) + 1)
    for low, high, kind in sample.loss:
        kind_at[low:high] = [KINDS.index(kind)] * (high - low)
    targets = [
        (n - 1, ids[n], kind_at[high - 1]) for n, (_, high) in enumerate(offsets) if n and kind_at[high - 1] >= 0
    ]
    looks: dict[str, list[tuple[int, int, int, int]]] = {}
    for name, low, high, first, last, number in sample.looks:
        rows = looks.setdefault(name, [])
        tokens = [n for n in range(max(token_at[low] - 1, 0), token_at[high - 1] + 1) if offsets[n][1] > low]
        if name == "copy":
            for n in tokens:
                source = token_at[first + max(offsets[n][1] - 1 - low, 0)]
                source -= ids[source] != ids[n]
                if ids[source] == ids[n] and source < n - 1:
                    rows.append((n - 1, source, source + 1, number))
        else:
            shift = 1 if name == "question" else 0  # a decision is taken one token before it is written
            rows += [(n - shift, token_at[first], token_at[last - 1] + 1, number) for n in tokens]
        looks[name] = rows = [r for r in rows if r[1] <= r[0]]
    return Encoded(ids, targets, looks)


def collate(group: list[Encoded], rng: random.Random) -> Batch:
    """Pad to the longest; looks are thinned to ROWS per sequence and head, which is enough to learn from."""
    length = max(len(e.ids) for e in group)
    ids = torch.zeros(len(group), length, dtype=torch.long)
    at, targets, kinds = [], [], []
    for n, e in enumerate(group):
        ids[n, : len(e.ids)] = torch.tensor(e.ids)
        for place, target, kind in e.targets:
            at.append(n * length + place)
            targets.append(target)
            kinds.append(kind)
    looks = {}
    for name in GUIDED:
        table = torch.zeros(5, len(group), ROWS)
        for n, e in enumerate(group):
            rows = e.looks.get(name, [])
            for r, look in enumerate(rng.sample(rows, min(ROWS, len(rows)))):
                table[:, n, r] = torch.tensor([*look, 1.0])
        row, low, high, number = table[:4].long()
        looks[name] = Look(row, low, high, number, table[4])
    kind = torch.tensor(kinds)
    return Batch(ids, torch.tensor(at), torch.tensor(targets), torch.tensor(list(WEIGHTS.values()))[kind], kind, looks)


def stream(
    draw: Callable[[random.Random], Sample], tokenizer: Tokenizer, tokens: int, longest: int, seed: int
) -> Iterator[Batch]:
    """Endless batches of about `tokens` tokens, made of samples of like length."""
    rng = random.Random(seed)
    while True:
        pool = [e for e in (encode(draw(rng), tokenizer) for _ in range(160)) if len(e.ids) <= longest and e.targets]
        pool.sort(key=lambda e: len(e.ids))
        groups: list[list[Encoded]] = [[]]
        for e in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(e.ids) > tokens:
                groups.append([])
            groups[-1].append(e)
        rng.shuffle(groups)
        yield from (collate(group, rng) for group in groups)
