"""Group ``decode_*`` and ``prefill_*``: tokens per second of our engine and of llama.cpp on the same random weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from bench.artefacts import FORMATS, decoder, gguf
from bench.environment import ours, peer
from bench.figure import Budget, Figure
from bench.models import prompt
from bench.rounds import Reading, interleave, medians, spread
from bench.worker import Worker

PROMPT, TOKENS, CONTEXT = 128, 64, 512
ROUNDS = 5
CASES = {f"{quantize}_{threads}t": (quantize, threads) for quantize in FORMATS for threads in (1, 2)}
NAMES = tuple(f"{what}_{case}{clock}" for case in CASES for what in ("decode", "prefill") for clock in ("", "_cpu"))


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """For every wanted case both engines, loaded at the same time, asked in turn."""
    for case, (quantize, threads) in CASES.items():
        if any(f"_{case}" in name for name in names):
            yield from _case(case, quantize, threads)


def _case(case: str, quantize: str, threads: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        workers = {
            "ours": stack.enter_context(Worker(ours("decode", decoder(quantize), threads))),
            "peer": stack.enter_context(Worker(peer("decode", gguf(quantize), threads, CONTEXT))),
        }
        for worker in workers.values():
            _ask(worker, -1)
        readings = interleave({name: partial(_ask, worker) for name, worker in workers.items()}, ROUNDS)
    middle = {name: medians(each) for name, each in readings.items()}
    for what in ("decode", "prefill"):
        for clock, unit in (("", "tokens/s"), ("_cpu", "tokens/CPU-s")):
            quantity = f"{what}{clock}"
            budgeted = what == "decode" and quantize == "int4" and not clock
            yield Figure(
                name=f"{what}_{case}{clock}",
                ours=middle["ours"][quantity],
                peer=middle["peer"][quantity],
                unit=unit,
                better="higher",
                peer_name=f"llama.cpp {FORMATS[quantize]} (llama-cpp-python, built for this CPU)",
                budget=Budget(0.9, "ratio") if budgeted else None,
                conditions=(
                    f"135M random weights, {threads} thread{'s' * (threads > 1)}, prompt {PROMPT}, {TOKENS} tokens at "
                    f"depth {PROMPT}-{PROMPT + TOKENS}, median of {ROUNDS} interleaved rounds, "
                    f"ours {spread(readings['ours'], quantity)}, peer {spread(readings['peer'], quantity)}"
                ),
            )


def _ask(worker: Worker, number: int) -> Reading:
    """Tokens per second of wall and of CPU time. No two rounds share a prompt: ours would not read a prefix twice."""
    answer = worker.ask(prompt=prompt(PROMPT, number + 1), tokens=TOKENS)
    return {
        "prefill": PROMPT / answer["prefill_s"],
        "prefill_cpu": PROMPT / answer["prefill_cpu_s"],
        "decode": TOKENS / answer["decode_s"],
        "decode_cpu": TOKENS / answer["decode_cpu_s"],
    }
