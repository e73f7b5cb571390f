"""A small Llama whose first weights already know how to copy; its parameter names are those of the exported folder.

The circuits written by `start` are the induction heads of Olsson et al. (2022, arXiv:2209.11895): a head that looks one
token back, and later heads that look for the token after an earlier copy of the present one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    vocabulary: int = 4096
    width: int = 256
    layers: int = 5
    heads: int = 8
    groups: int = 4
    hidden: int = 512
    theta: float = 500_000.0

    @property
    def head(self) -> int:
        return self.width // self.heads


# Heads that are told where to look while training: name -> (layer, head).
GUIDED = {"sentence": (1, 0), "passage": (1, 2), "lookup": (2, 0), "question": (3, 0), "copy": (4, 0)}
# The same heads' layers are asked, by probes that are thrown away, for the number of the passage (0: none has the answer).
PROBED = ("passage", "lookup", "question")
NUMBERS = 8
FAST, SLOW = 7, 8  # rotary pairs below FAST turn quickly and tell offsets; those from SLOW on carry content


@dataclass(slots=True)
class Look:
    """Rows of one batch that a guided head should send to positions [low, high); all (batch, rows), weight 0 where unused.

    `number` is the passage each row is about.
    """

    row: Tensor
    low: Tensor
    high: Tensor
    number: Tensor
    weight: Tensor


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner = shape.groups * shape.head
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, inner, bias=False)
        self.v_proj = nn.Linear(shape.width, inner, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor,
        looks: list[tuple[str, int, Look]],
        losses: dict[str, Tensor],
    ) -> Tensor:
        batch, length, width = x.shape
        s = self.shape
        q, k, v = (
            p(x).view(batch, length, -1, s.head).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        for name, head, look in looks:
            losses[name] = guide(q[:, head], k[:, head * s.groups // s.heads], look)
        # Written out: at these lengths torch's fused attention spends twice the time on its way back (CPU, 2.13).
        q = q.reshape(batch, s.groups, -1, s.head) / math.sqrt(s.head)
        scores = (q @ k.transpose(2, 3)).view(batch, s.groups, -1, length, length)
        weights = (scores + mask).softmax(-1, dtype=scores.dtype)
        mixed = (weights.view(batch, s.groups, -1, length) @ v).view(batch, s.heads, length, s.head)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width, eps=1e-5)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=1e-5)
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(shape.width, shape.hidden, bias=False),
                "up_proj": nn.Linear(shape.width, shape.hidden, bias=False),
                "down_proj": nn.Linear(shape.hidden, shape.width, bias=False),
            }
        )

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor,
        looks: list[tuple[str, int, Look]],
        losses: dict[str, Tensor],
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, looks, losses)
        y = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y))


class Network(nn.Module):
    """Token ids (batch, length) and the flat positions to predict from -> logits (positions, vocabulary), guidance losses."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = nn.ModuleDict(
            {
                "embed_tokens": nn.Embedding(shape.vocabulary, shape.width),
                "layers": nn.ModuleList(Block(shape) for _ in range(shape.layers)),
                "norm": nn.RMSNorm(shape.width, eps=1e-5),
            }
        )
        self.probes = nn.ModuleDict({name: nn.Linear(shape.width, NUMBERS) for name in PROBED})

    def forward(
        self, ids: Tensor, at: Tensor, looks: dict[str, Look] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.model["embed_tokens"](ids)
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        frequency = self.shape.theta ** (-torch.arange(0, self.shape.head, 2) / self.shape.head)
        angle = torch.arange(ids.shape[1])[:, None] * frequency
        angle = torch.cat((angle, angle), -1)
        cos, sin = angle.cos().to(kind), angle.sin().to(kind)
        mask = torch.full((ids.shape[1], ids.shape[1]), -1e9, dtype=kind).triu(1)
        losses: dict[str, Tensor] = {}
        for n, layer in enumerate(self.model["layers"]):
            here = [
                (name, head, looks[name])
                for name, (at_layer, head) in GUIDED.items()
                if at_layer == n and looks and name in looks
            ]
            x = layer(x, cos, sin, mask, here, losses)
            for name, _, look in here:
                if name in PROBED:
                    rows = x.gather(1, look.row[..., None].expand(-1, -1, x.shape[-1]))
                    told = self.probes[name](F.rms_norm(rows, rows.shape[-1:])).float()
                    missed = F.cross_entropy(told.flatten(0, 1), look.number.flatten(), reduction="none")
                    losses[f"{name} number"] = (missed * look.weight.flatten()).sum() / look.weight.sum().clamp(min=1)
        x = self.model["norm"](x.flatten(0, 1)[at])
        return x @ self.model["embed_tokens"].weight.T, losses


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, half-split as in Llama."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


def guide(q: Tensor, k: Tensor, look: Look) -> Tensor:
    """-log of the attention that rows of one head give to their ranges, averaged; q, k are (batch, length, head)."""
    rows = q.gather(1, look.row[..., None].expand(-1, -1, q.shape[-1])).float()
    scores = rows @ k.float().transpose(1, 2) / math.sqrt(q.shape[-1])
    place = torch.arange(k.shape[1])
    scores = scores.masked_fill(place > look.row[..., None], -1e9)
    wanted = (place >= look.low[..., None]) & (place < look.high[..., None]) & (place <= look.row[..., None])
    # A row that is lost entirely says little and, unbounded, would drown the others: the copy head once came apart over it.
    missed = (scores.logsumexp(-1) - scores.masked_fill(~wanted, -1e9).logsumexp(-1)).clamp(max=4.0)
    return (missed * look.weight).sum() / look.weight.sum().clamp(min=1)


def start(network: Network, families: list[int], seed: int) -> None:
    """Write the first weights: offset heads, induction heads, matching heads; `families` groups tokens that look alike."""
    shape, generator = network.shape, torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    def frame(rows: int) -> Tensor:
        """Random orthonormal rows that do not see dimension 0, the constant one."""
        made = torch.zeros(rows, shape.width)
        made[:, 1:] = torch.linalg.qr(normal(shape.width - 1, rows))[0].T
        return made

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 2:
                scale = 0.05 if "o_proj" in name or "down_proj" in name else 1.0
                parameter.copy_(normal(*parameter.shape) * scale / math.sqrt(parameter.shape[1]) * 0.7)
        # Port, port and ports start near each other, so that a question finds a word in another form.
        embedding = network.model["embed_tokens"].weight
        family = torch.tensor(families)
        rows = 0.8 * normal(shape.vocabulary, shape.width)[family] + 0.6 * normal(shape.vocabulary, shape.width)
        rows[:, 0] = 0
        rows = rows / rows.norm(dim=1, keepdim=True) * 0.1 * math.sqrt(shape.width)
        rows[:, 0] = 0.5
        embedding.copy_(rows)
        network.model["norm"].weight.fill_(1.5)

        half, head = shape.head // 2, shape.head
        ratio = shape.heads // shape.groups
        layers = network.model["layers"]
        frequency = shape.theta ** (-torch.arange(half) / half)
        constant = 0.5 / math.sqrt(0.01 + 0.25 / shape.width)  # dimension 0 after the norm
        # Layer 0, group 0: look one and two tokens back, and bring those tokens' content along.
        attention = layers[0].self_attn
        attention.k_proj.weight[:head] = 0
        attention.q_proj.weight[: ratio * head] = 0
        gain = math.sqrt(8 * math.sqrt(head)) / constant
        attention.k_proj.weight[:FAST, 0] = gain
        content, *back = frame(3 * head).split(head)
        attention.v_proj.weight[:head] = content
        for n, offset in enumerate((1, 2)):
            attention.q_proj.weight[n * head : n * head + FAST, 0] = gain * torch.cos(-offset * frequency[:FAST])
            attention.q_proj.weight[n * head + half : n * head + half + FAST, 0] = gain * torch.sin(
                -offset * frequency[:FAST]
            )
            attention.o_proj.weight[:, n * head : (n + 1) * head] = 0.2 * back[n].T
        slow = torch.cat((torch.arange(SLOW, half), torch.arange(SLOW, half) + half))

        def match(layer: int, group: int, query: Tensor, key: Tensor, sharp: float, output: float) -> None:
            """One group's heads look for positions whose `key` content equals the `query` content, and copy their token."""
            attention = layers[layer].self_attn
            place = group * head
            strength = math.sqrt(sharp * math.sqrt(head) / len(slow))
            mix = torch.linalg.qr(normal(head, head))[0][: len(slow)] * strength * math.sqrt(head / len(slow))
            attention.k_proj.weight[place : place + head] *= 0.3
            attention.k_proj.weight[place + slow] = mix @ key
            copied = frame(head)
            attention.v_proj.weight[place : place + head] = copied
            for n in range(ratio * group, ratio * group + ratio):
                attention.q_proj.weight[n * head : (n + 1) * head] *= 0.3
                attention.q_proj.weight[n * head + slow] = mix @ query
                attention.o_proj.weight[:, n * head : (n + 1) * head] = output / ratio * copied.T

        both = (content * 0.8 + back[0] * 0.6, back[0] * 0.8 + back[1] * 0.6)
        # Later layers read a fuller stream, so they need sharper eyes.
        for layer, sharp, output in ((1, 14.0, 0.2), (2, 24.0, 0.3)):
            match(layer, 2, content, back[0], sharp, output)
            match(layer, 3, *both, sharp, output)
        match(2, 0, content, content, 16.0, 0.1)  # the question's words find themselves in the passages
        match(4, 0, *both, 40.0, 1.0)
