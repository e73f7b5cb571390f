"""Group ``safety_*``: what a shield of 500 rules costs a message and a stream, and whether any text takes it long."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable
from functools import partial

from bench.figure import Budget, Figure
from bench.rounds import Reading, interleave, medians, spread
from lsbuild_plugins.rules.compile import canonical, pack, rules
from lsbuild_plugins.rules.compile.step import PACKS
from lsbuild_plugins.rules.serve.format import Rule, Rules
from lsbuild_plugins.rules.serve.shield import Shield
from lsbuild_runtime.http import Context

NAMES = ("safety_check_2kb", "safety_check_2kb_unicode", "safety_stream_chunk", "safety_worst_growth")
ROUNDS = 5
RULES = 500
_PACKS = ("pii", "secrets", "prompt-injection", "profanity", "self-harm", "violence")
_PROSE = """the pump needs new oil every spring and nobody ever complained about how that valve looks after all these
years of quiet work in a cellar where rain comes in through an old window"""
_SEEDS = (
    "a",
    "0",
    "1 ",
    "a@",
    "a.a@a.",
    "-",
    "4111 ",
    "ignore all ",
    "i ",
    "eyJa",
    "::",
    "+1 ",
    "//a:b@",
    "k1",
    "\u0301",
)


def measure(names: tuple[str, ...]) -> Iterable[Figure]:
    """In this process, in CPU time."""
    shield = Shield(_rules())
    text, context = prose(2000), Context(deadline=float("inf"))
    if "safety_check_2kb" in names:
        loop = [re.compile(rule.pattern) for rule in _rules().rules]
        readings = interleave(
            {
                "ours": lambda _: _timed(lambda: shield.check(text, "input", context), 400),
                "peer": lambda _: _timed(partial(_loop, loop, text), 2),
            },
            ROUNDS,
        )
        yield _figure("safety_check_2kb", readings["ours"], medians(readings["peer"])["ms"])
    if "safety_check_2kb_unicode" in names:
        other = text[:1900] + " Насос нуждается в масле, der Kühler in Öl."
        read = [_timed(lambda: shield.check(other, "input", context), 200) for _ in range(ROUNDS)]
        yield _figure("safety_check_2kb_unicode", read, None)
    if "safety_stream_chunk" in names:
        read = [_stream(shield, text * 4) for _ in range(ROUNDS)]
        yield _figure("safety_stream_chunk", read, None)
    if "safety_worst_growth" in names:
        yield Figure(
            "safety_worst_growth", max(_growth(shield, seed) for seed in _seeds()), "times", "lower",
            budget=Budget(16), conditions="time for 32 kB over time for 4 kB of one repeated text, worst of 75; 8 is linear",
        )  # fmt: skip


def _figure(name: str, readings: list[Reading], peer: float | None) -> Figure:
    budget = Budget(0.02) if name == "safety_check_2kb" else None
    said = f"{RULES} rules, CPU time, median of {ROUNDS}, {spread(readings, 'ms')}"
    who = "a loop of the standard library's re" if peer is not None else ""
    return Figure(name, medians(readings)["ms"], "ms", "lower", peer, who, budget, said)


def _rules() -> Rules:
    """The shipped packs, and phrases of three words up to the number."""
    chance = random.Random(5)
    packs = [pack.read(PACKS / f"{name}.yaml", name) for name in _PACKS]
    made = rules.compile_packs(packs, {}, canonical.table())
    more = tuple(_phrase(number, chance) for number in range(RULES - len(made.rules)))
    return Rules(made.categories, (*made.rules, *more), made.table)


def _phrase(number: int, chance: random.Random) -> Rule:
    words = [
        "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randint(4, 9))) for _ in range(3)
    ]
    pattern = rf"\b{'[ ]{1,3}'.join(words)}\b"
    return Rule(f"b.{number}", "b", "block", ("input", "output"), pattern, 33, "", "b", leet=True)


def prose(size: int) -> str:
    """Harmless words up to this many characters."""
    chance = random.Random(3)
    text = " ".join(chance.choice(_PROSE.split()) for _ in range(size))
    return text[:size]


def _loop(patterns: list[re.Pattern[str]], text: str) -> list[re.Match[str]]:
    plain = text.lower()
    return [found for pattern in patterns if (found := pattern.search(plain)) is not None]


def _timed(work: Callable[[], object], times: int) -> Reading:
    work()
    started = time.process_time()
    for _ in range(times):
        work()
    return {"ms": (time.process_time() - started) / times * 1000}


def _stream(shield: Shield, text: str) -> Reading:
    guard = shield.guard("output", Context())
    started = time.process_time()
    for place in range(0, len(text), 4):
        guard.feed(text[place : place + 4])
    return {"ms": (time.process_time() - started) / (len(text) / 4) * 1000}


def _seeds() -> list[str]:
    chance = random.Random(7)
    return [
        *_SEEDS,
        *("".join(chance.choice("aA0 @.:-/+_[{(\nа") for _ in range(chance.randint(2, 9))) for _ in range(60)),
    ]


def _growth(shield: Shield, seed: str) -> float:
    short, long = (min(_once(shield, seed, size) for _ in range(2)) for size in (4_000, 32_000))
    return long / max(short, 0.0005)


def _once(shield: Shield, seed: str, size: int) -> float:
    return _timed(lambda: shield.check((seed * (size // len(seed) + 1))[:size], "input", Context()), 1)["ms"]
