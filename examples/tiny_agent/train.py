"""Train the network for a number of minutes of processor time; it can be stopped and resumed, and writes only checkpoints.

Matrices learn with Muon (Jordan et al., 2024), the embedding and the norms with AdamW. Two processes share the work when
started by `python -m torch.distributed.run --nproc-per-node 2 train.py ...`.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import threading
import time
import zlib
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from batches import KINDS, Batch, stream
from network import GUIDED, PROBED, Network, Shape, start
from passages import Corpus
from questions import stem
from samples import draw
from tokenizers import Tokenizer
from torch import Tensor


def held_out_document(path: str) -> bool:
    return zlib.crc32(path.encode()) % 33 == 0


def held_out_sentence(sentence: str) -> bool:
    return zlib.crc32(sentence.encode()) % 20 == 0


def training_documents(corpus: Path) -> list[list[list[str]]]:
    """Documents without the held-out ones, paragraphs without the held-out sentences."""
    documents = [json.loads(line) for line in corpus.open()]
    return [
        [[p[0], *(s for s in p[1:] if not held_out_sentence(s))] for p in d["paragraphs"]]
        for d in documents
        if not held_out_document(d["path"])
    ]


def families(tokenizer: Tokenizer) -> list[int]:
    """For each token, a number shared by the tokens that are forms of one word."""
    names: dict[str, int] = {}
    found = []
    for n in range(tokenizer.get_vocab_size()):
        token = tokenizer.id_to_token(n) or str(n)
        bare = token.lstrip("Ġ")
        found.append(
            names.setdefault(f"{token[: len(token) - len(bare)]}{stem(bare)}" if bare.isalpha() else f"#{n}", n)
        )
    return found


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal by five Newton-Schulz steps; matrices of one shape go through them together."""

    def __init__(self, matrices: list[Tensor], lr: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": 0.95, "decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for p in group["params"]:
                flip = p.shape[0] > p.shape[1]
                shapes.setdefault((min(p.shape), max(p.shape)), []).append(p)
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                self.state[p]["update"] = update.T if flip else update
            for same in shapes.values():
                x = torch.stack([self.state[p].pop("update") for p in same])
                x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                for p, u in zip(same, x.float(), strict=True):
                    p.mul_(1 - group["lr"] * group["decay"])
                    tall = p.shape[0] > p.shape[1]
                    p.add_(u.T if tall else u, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def ahead(source: object, size: int = 6) -> queue.Queue[Batch]:
    """Batches made in a thread, so that the network never waits for them."""
    made: queue.Queue[Batch] = queue.Queue(size)

    def work() -> None:
        for batch in source:  # type: ignore[attr-defined]
            made.put(batch)

    threading.Thread(target=work, daemon=True).start()
    return made


def rate(progress: float, warm: float) -> float:
    """Learning rate factor: warm-up, constant, then straight to zero."""
    return min(1.0, warm, max(0.0, (1 - progress) / 0.62))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--tokens", type=int, default=3072, help="per step and process")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--out", type=Path, default=Path("checkpoint.pt"))
    options = parser.parse_args()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo")
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    corpus = Corpus(training_documents(options.corpus))
    network = Network(Shape(vocabulary=tokenizer.get_vocab_size()))
    start(network, families(tokenizer), seed=1)
    matrices = [p for n, p in network.named_parameters() if p.dim() == 2 and "embed" not in n and "probes" not in n]
    others = [p for n, p in network.named_parameters() if "probes" not in n and (p.dim() != 2 or "embed" in n)]
    probes = list(network.probes.parameters())
    muon = Muon(matrices, options.rate)
    adam = torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    probing = torch.optim.AdamW(probes, lr=5e-3, betas=(0.9, 0.98), weight_decay=0.0)
    step, spent, seen = 0, 0.0, 0
    if options.out.exists():
        saved = torch.load(options.out, weights_only=False)
        network.load_state_dict(saved["network"], strict=False)
        if "muon" in saved:
            muon.load_state_dict(saved["muon"])
            adam.load_state_dict(saved["adam"])
        step, spent, seen = saved["step"], saved["spent"], saved["seen"]
    progress = [spent / (60 * options.minutes)]
    batches = ahead(
        stream(
            lambda rng: draw(rng, corpus, min(0.7, max(0.0, 2 * progress[0] - 0.1))),
            tokenizer,
            options.tokens,
            640,
            seed=1000 * step + rank + 7,
        )
    )
    right, count, looked = (
        torch.zeros(len(KINDS)),
        torch.zeros(len(KINDS)),
        dict.fromkeys([*GUIDED, *(f"{name} number" for name in PROBED)], 0.0),
    )
    last, saved_at, total = time.time(), time.time(), 0.0
    while progress[0] < 1:
        batch = batches.get()
        with torch.autocast("cpu", torch.bfloat16):
            logits, guided = network(batch.ids, batch.at, batch.looks)
        logits = logits.float()
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        loss = (losses * batch.weights).sum() / batch.weights.sum()
        hint = 0.25 * min(1.0, max(0.1, (1 - progress[0]) / 0.4))
        (loss + hint * sum(guided.values())).backward()
        spent += time.time() - last
        last = time.time()
        if world > 1:
            parameters = [*matrices, *others, *probes]
            flat = (
                torch.cat([*(p.grad.flatten() for p in parameters), torch.tensor([spent, float(batch.ids.numel())])])
                / world
            )
            dist.all_reduce(flat)
            spent, size = float(flat[-2]), int(flat[-1] * world)
            for p, g in zip(parameters, flat[:-2].split([p.numel() for p in parameters]), strict=True):
                p.grad = g.view_as(p)
        else:
            size = batch.ids.numel()
        torch.nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
        factor = rate(progress[0], (step + 1) / 30)
        for optimizer, base in ((muon, options.rate), (adam, 1e-3), (probing, 5e-3)):
            optimizer.param_groups[0]["lr"] = base * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + size
        progress[0] = spent / (60 * options.minutes)
        right.index_add_(0, batch.kinds, (logits.argmax(-1) == batch.targets).float())
        count.index_add_(0, batch.kinds, torch.ones(len(batch.kinds)))
        looked = {name: looked[name] + float(value.detach()) for name, value in guided.items()}
        total += float(loss.detach())
        if rank == 0 and step % 25 == 0:
            shown = " ".join(f"{k} {r:.3f}" for k, r in zip(KINDS, (right / count.clamp(min=1)).tolist(), strict=True))
            heads = " ".join(f"{k} {v / 25:.2f}" for k, v in looked.items())
            print(
                f"step {step} min {spent / 60:.2f} Mtok {seen / 1e6:.3f} loss {total / 25:.3f} | {shown} | {heads} | {factor:.2f}",
                flush=True,
            )
        if step % 25 == 0:
            right.zero_(), count.zero_()
            looked, total = dict.fromkeys([*GUIDED, *(f"{name} number" for name in PROBED)], 0.0), 0.0
        if rank == 0 and (time.time() - saved_at > 150 or progress[0] >= 1):
            saved_at = time.time()
            state = {
                "network": network.state_dict(),
                "muon": muon.state_dict(),
                "adam": adam.state_dict(),
                "step": step,
                "spent": spent,
                "seen": seen,
            }
            torch.save(state, options.out.with_suffix(".new"))
            os.replace(options.out.with_suffix(".new"), options.out)


if __name__ == "__main__":
    main()
