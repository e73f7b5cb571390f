"""Ask the exported folder held-out questions, greedily and through transformers; prints a table and writes evaluation.json."""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from passages import Corpus
from samples import CHAT, REFUSAL, Sample, chat, grounded, tools
from train import held_out_document
from transformers import AutoTokenizer, LlamaForCausalLM

TURN = "<|im_start|>assistant\n"
END = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Case:
    cell: str
    prompt: str
    wanted: str


def turns(sample: Sample) -> list[tuple[str, str]]:
    """(prompt, answer) of every assistant turn."""
    found = []
    for match in re.finditer(re.escape(TURN), sample.text):
        found.append((sample.text[: match.end()], sample.text[match.end() : sample.text.index(END, match.end())]))
    return found


def take(
    cell: str, count: int, rng: random.Random, make: Callable[[random.Random], Sample], keep: Callable[[str, str], bool]
) -> list[Case]:
    """`count` cases of one cell: the first fitting turn of each fresh sample."""
    cases: list[Case] = []
    while len(cases) < count:
        fitting = [t for t in turns(make(rng)) if keep(*t)]
        if fitting:
            cases.append(Case(cell, *fitting[0]))
    return cases


def called(topic: str) -> Callable[[str, str], bool]:
    """Keep tool calls whose question is of one topic."""

    def keep(prompt: str, answer: str) -> bool:
        if "<tool_call>" not in answer:
            return False
        arguments = json.loads(answer.split("\n")[1])["arguments"]
        values = [str(v) for v in arguments.values()]
        kind = (
            "unit"
            if len(values) == 3
            else "calculator"
            if re.fullmatch(r"[\d.]+ [*/+-] .*|\(.*", values[0])
            else "lookup"
        )
        return kind == topic

    return keep


def cases(corpus: Corpus, count: int) -> list[Case]:
    rng = random.Random(20_26)
    made: list[Case] = []

    def first_turn(prompt: str) -> bool:
        return prompt.count(TURN) == 1 and "Tools:" not in prompt

    def of(name: str, size: int, longest: int, prefix: str) -> None:
        def make(r: random.Random) -> Sample:
            while not (sample := grounded(r, corpus, size, longest, 4)).kind.startswith(prefix):
                pass
            return sample

        made.extend(take(name, count, rng, make, lambda p, a: first_turn(p) and a.startswith("According")))
        if longest != 6:
            made.extend(take(f"refuse: {name}", count // 2, rng, make, lambda p, a: first_turn(p) and a == REFUSAL))

    for size in (1, 2, 3):
        of(f"{size} x 1 sentence, real", size, 1, "grounded")
    for size in (1, 2, 3):
        of(f"{size} x 1-3 sentences, real", size, 3, "grounded")
    for size in (1, 2, 3):
        of(f"{size} x 1-3 sentences, invented", size, 3, "invented")
    of("3 x 1-6 sentences, real", 3, 6, "grounded")
    for topic in ("calculator", "unit", "lookup"):
        made.extend(take(f"call {topic}", count, rng, lambda r: tools(r, corpus), called(topic)))
    for name, start in (
        ("plain or JSON result", "The "),
        ("text result", "The tool says"),
        ("failed tool", "The tool failed"),
    ):
        made.extend(
            take(
                f"final: {name}",
                count,
                rng,
                lambda r: tools(r, corpus),
                lambda p, a, s=start: (
                    "<|im_start|>tool\n" in p and a.startswith(s) and (s != "The " or not a.startswith("The tool"))
                ),
            )
        )
    made.extend(
        take(
            "no such tool",
            count,
            rng,
            lambda r: tools(r, corpus),
            lambda p, a: a.startswith("I cannot") and "Tools:" in p,
        )
    )
    made.extend(
        take("chat", count, rng, lambda r: chat(r, corpus), lambda p, a: any(a == answer for _, answer in CHAT))
    )
    return made


def natural(path: Path, folder: Path) -> list[Case]:
    """Hand-written passages, tools and questions, of which nothing was used in training."""
    made = []
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for context in json.loads(path.read_text()):
        for asked, wanted in context["asks"] if "tools" in context else ():
            message = [{"role": "user", "content": asked}]
            prompt = tokenizer.apply_chat_template(
                message, tools=context["tools"], tokenize=False, add_generation_prompt=True
            )
            answer = (
                wanted
                if isinstance(wanted, str)
                else f"<tool_call>\n{json.dumps({'name': wanted[0], 'arguments': wanted[1]})}\n</tool_call>"
            )
            made.append(
                Case("call: hand-written" if answer != wanted else "no such tool: hand-written", prompt, answer)
            )
        if "tools" in context:
            continue
        passages = "".join(f"[{n}] {p}\n" for n, p in enumerate(context["passages"], 1))
        for asked, number, sentence in context["asks"]:
            answer = f"According to [{number}]: {sentence}" if number else REFUSAL
            made.append(
                Case(
                    "hand-written" if number else "refuse: hand-written",
                    f"<|im_start|>user\n{passages}\n{asked}{END}\n{TURN}",
                    answer,
                )
            )
    return made


def generate(folder: Path, prompts: list[str], size: int = 24) -> list[str]:
    """Greedy answers, in batches of prompts of like length."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    for at in range(0, len(order), size):
        chosen = order[at : at + size]
        batch = tokenizer([prompts[n] for n in chosen], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            out = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=90, do_sample=False
            )
        for n, row in zip(chosen, out[:, batch["input_ids"].shape[1] :], strict=True):
            answers[n] = tokenizer.decode(row, skip_special_tokens=False).split(END)[0]
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--count", type=int, default=50, help="cases per cell")
    parser.add_argument("--out", type=Path, default=Path("evaluation.json"))
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    documents = [json.loads(line) for line in options.corpus.open()]
    corpus = Corpus([d["paragraphs"] for d in documents if held_out_document(d["path"])])
    asked = [
        c
        for c in natural(Path(__file__).with_name("natural.json"), options.model) + cases(corpus, options.count)
        if options.only in c.cell
    ]
    answers = generate(options.model, [c.prompt for c in asked])
    rows: dict[str, dict[str, float]] = {}
    for cell in dict.fromkeys(c.cell for c in asked):
        pairs = [(c, a) for c, a in zip(asked, answers, strict=True) if c.cell == cell]
        row = rows[cell] = {"n": len(pairs), "exact": sum(c.wanted == a for c, a in pairs) / len(pairs)}
        if pairs[0][0].wanted.startswith("According"):
            row["number right"] = sum(c.wanted[:16] == a[:16] for c, a in pairs) / len(pairs)
            row["verbatim"] = sum(a.startswith("According") and a[18:] in c.prompt for c, a in pairs) / len(pairs)
            row["false refusal"] = sum(a == REFUSAL for c, a in pairs) / len(pairs)
    for cell, row in rows.items():
        print(f"{cell:36}" + "  ".join(f"{k} {v:.2f}" if k != "n" else f"n {v:3.0f}" for k, v in row.items()))
    missed = [
        {"cell": c.cell, "prompt": c.prompt, "wanted": c.wanted, "got": a}
        for c, a in zip(asked, answers, strict=True)
        if c.wanted != a
    ]
    options.out.write_text(json.dumps({"cells": rows, "missed": missed[:: max(1, len(missed) // 60)]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
