"""Make training and test conversations from sentences; pure functions of a random generator, they touch no model and no disk.

A conversation is built as text together with what a tokenizer cannot know: where the loss counts, and where each token
should look (the first word of its sentence, its passage's number, the words of the question, the source of a copy).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from passages import Corpus, Passage, Question, ask, content, dress, question, stems
from questions import STOP, stem
from tools import Tool, ToolTask, tool_task

REFUSAL = "I don't know. The passages do not say."
NOTHING = "I cannot answer that: I was given no passage and no tool for it."
CHAT = [
    (
        ["hello", "hi", "hey", "hello there", "good morning", "hi there", "good evening", "hey there", "greetings"],
        "Hello! Ask me about your documents, or give me a task for my tools.",
    ),
    (
        [
            "who are you",
            "what are you",
            "what is your name",
            "who am I talking to",
            "are you a robot",
            "tell me who you are",
            "introduce yourself",
        ],
        "I am a tiny example agent. I quote passages and call tools.",
    ),
    (
        [
            "what can you do",
            "how can you help me",
            "what are you able to do",
            "help",
            "what do you do",
            "can you help me",
        ],
        "I can quote the passages I am given and call the tools I am told about.",
    ),
    (
        ["thanks", "thank you", "thank you very much", "great, thanks", "thanks a lot", "many thanks", "ok, thank you"],
        "You are welcome.",
    ),
    (["bye", "goodbye", "see you", "bye bye", "good night", "see you later"], "Goodbye!"),
]
SYSTEMS = [
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer from the passages and cite them.",
    "Answer questions about the documentation. Quote the passage you use.",
    "You are a documentation agent. Be brief.",
    "You answer only from the given passages.",
    "You are a support agent. Use the tools when they help.",
    "Be concise.",
    "You are an agent that reads documents and calls tools. If the passages do not say, say so.",
]


@dataclass(slots=True)
class Sample:
    """A conversation: its text, loss spans (start, end, kind) and looks (head, start, end, from, to, passage), in characters."""

    text: str = ""
    loss: list[tuple[int, int, str]] = field(default_factory=list)
    looks: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    kind: str = ""

    def add(self, text: str) -> int:
        """Append text; returns where it starts."""
        start = len(self.text)
        self.text += text
        return start

    def say(self, text: str, kind: str, source: int = -1) -> int:
        """Append answer text of a loss kind, copied from `source` if that is given; returns where it starts."""
        start = self.add(text)
        self.loss.append((start, start + len(text), kind))
        if source >= 0:
            self.looks.append(("copy", start, start + len(text), source, source + len(text), 0))
        return start


def open_system(sample: Sample, rng: random.Random, tools: list[Tool]) -> None:
    """The system part, as the chat template writes it."""
    system = rng.choice(SYSTEMS) if rng.random() < 0.6 else ""
    if not system and not tools:
        return
    sample.add("<|im_start|>system\n" + system)
    if tools:
        sample.add(("\n\n" if system else "") + "Tools:")
        for tool in tools:
            start = sample.add("\n" + tool.line()) + 1
            sample.looks.append(("sentence", start + 2, len(sample.text), start + 2, start + 3, 0))
    sample.add("<|im_end|>\n")


def turn_user(sample: Sample, text: str) -> int:
    sample.add("<|im_start|>user\n")
    start = sample.add(text)
    sample.add("<|im_end|>\n<|im_start|>assistant\n")
    return start


def plain(sample: Sample, answer: str) -> None:
    """A fixed answer, decided by its first words."""
    first = " ".join(answer.split(" ")[:3])
    sample.say(first, "first")
    sample.say(answer[len(first) :], "fixed")
    close(sample)


def close(sample: Sample) -> None:
    sample.say("<|im_end|>", "end")
    sample.add("\n")


def write_passages(sample: Sample, passages: list[Passage]) -> dict[tuple[int, int], int]:
    """The passages as the user message holds them; returns where each sentence starts."""
    where: dict[tuple[int, int], int] = {}
    for p, passage in enumerate(passages):
        marker = sample.add(f"[{p + 1}]")
        if passage.heading:
            sample.add(f" {passage.heading}\n")
        for s, sentence in enumerate(passage.sentences):
            if s or not passage.heading:
                sample.add(" ")
            start = where[p, s] = sample.add(sentence)
            sample.looks.append(("sentence", start, start + len(sentence), start, start + 1, p + 1))
        sample.looks.append(("passage", marker, len(sample.text), marker, marker + 3, p + 1))
        sample.add("\n")
    sample.add("\n")
    return where


def answer_grounded(
    sample: Sample, start: int, asked: Question, where: dict[tuple[int, int], int], passages: list[Passage]
) -> None:
    """The answer to a question about passages, and what each of its tokens should look at."""
    end = start + len(asked.text)
    found = where[asked.target] if asked.target else 0
    number = asked.target[0] + 1 if asked.target else 0
    size = len(passages[asked.target[0]].sentences[asked.target[1]]) if asked.target else 1
    here = stems(sample.text[found : found + size]) if asked.target else set()
    for match in re.finditer(r"[A-Za-z-]+|\d+", asked.text):
        if stem(match[0]) in here and match[0].lower() not in STOP:
            sample.looks.append(("lookup", start + match.start(), start + match.end(), found, found + size, number))
        elif match[0].lower() not in STOP:
            sample.looks.append(("lookup", start + match.start(), start + match.end(), 0, 1, 0))
    if not asked.target:
        at = len(sample.text)
        plain(sample, REFUSAL)
        sample.looks.append(("question", at, at + 7, start, end, 0))
        return
    at = sample.say("According to", "first")
    sample.say(" ", "fixed")
    marker = f"[{number}]"
    cite = sample.say(marker, "cite", sample.text.rindex(marker, 0, found))
    sample.say(": ", "fixed")
    sentence = sample.text[found : found + size]
    head = re.match(r"\W*\w+\W+\w+", sentence)
    cut = head.end() if head else 1
    first = sample.say(sentence[:cut], "start", found)
    sample.say(sentence[cut:], "tail", found + cut)
    for low, high in ((at, at + 9), (cite, cite + 3), (first, first + cut)):
        sample.looks.append(("question", low, high, start, end, number))
    close(sample)


def grounded(rng: random.Random, corpus: Corpus, count: int, longest: int, asks: int) -> Sample:
    """One to four questions about one set of passages."""
    sample = Sample(kind=f"grounded-{count}")
    if rng.random() < 0.4:
        passages, asked = corpus.invented(rng, count, longest)
        sample.kind = f"invented-{count}"
    else:
        passages = corpus.real(rng, count, longest)
        foreign = [rng.choice(rng.choice(corpus.paragraphs)[1:]) for _ in range(6)]
        drawn = (question(rng, passages, foreign) for _ in range(asks * 4))
        asked = [q for q in drawn if q]
    tools = [tool_task(rng, corpus.words).tool for _ in range(rng.randint(1, 2))] if rng.random() < 0.08 else []
    open_system(sample, rng, tools)
    sample.add("<|im_start|>user\n")
    where = write_passages(sample, passages)
    if rng.random() < 0.04 or not asked:
        forms, answer = rng.choice(CHAT)
        sample.add(dress(rng, rng.choice(forms).capitalize()) + "<|im_end|>\n<|im_start|>assistant\n")
        plain(sample, answer)
        return sample
    start = sample.add(asked[0].text)
    sample.add("<|im_end|>\n<|im_start|>assistant\n")
    answer_grounded(sample, start, asked[0], where, passages)
    for more in asked[1:asks]:
        start = turn_user(sample, more.text)
        answer_grounded(sample, start, more, where, passages)
    return sample


def find_tool(sample: Sample, task: ToolTask, start: int, line: int) -> None:
    """The words that call for a tool look at its line (at nothing if `line` is -1), as a question's words look at a sentence."""
    low, high, number = (line, line + len(task.tool.line()), 7) if line >= 0 else (0, 1, 0)
    for word in (
        re.finditer(r"\d[\d.]*|\b(?:times|plus|minus|divided|multiplied)\b", task.question)
        if task.tool.topic in ("calculate", "convert")
        else re.finditer(rf"\b{task.tool.topic.removeprefix('search ')}\b", task.question)
    ):
        sample.looks.append(("lookup", start + word.start(), start + word.end(), low, high, number))


def tool_turn(sample: Sample, task: ToolTask, rng: random.Random) -> None:
    """One tool call with its result and its final answer."""
    start = turn_user(sample, task.question)
    line = sample.text.index("\n" + task.tool.line()) + 1
    find_tool(sample, task, start, line)
    sample.say("<tool_call>", "first")
    sample.say('\n{"name": "', "fixed")
    at = sample.say(task.tool.name, "arg", line + 2)
    sample.looks.append(("question", at, at + 1, start, start + len(task.question), 7))
    sample.say('", "arguments": {', "fixed")
    for n, (name, value) in enumerate(task.arguments):
        sample.say(', "' if n else '"', "arg")
        sample.say(name, "arg", line + task.tool.line().index(f"{name}: ", len(task.tool.name)))
        sample.say('": ', "fixed")
        bare = value.strip('"')
        at = task.question.find(bare)
        sample.say(value[: value.index(bare)], "fixed") if value != bare else None
        sample.say(bare, "arg", start + at if at >= 0 else -1)
        sample.say('"', "arg") if value != bare else None
    sample.say("}}", "arg")  # whether another argument follows is a decision too
    sample.say("\n</tool_call>", "fixed")
    close(sample)
    sample.add("<|im_start|>tool\n")
    sample.add(task.result)
    sample.add("<|im_end|>\n<|im_start|>assistant\n")
    at = sample.text.rindex(task.result)
    for piece, copied in task.final:
        source = (
            sample.text.find(piece, at)
            if copied and piece in task.result
            else sample.text.find(piece, start)
            if copied
            else -1
        )
        sample.say(piece, "arg" if copied else "first" if piece.startswith("The ") else "fixed", source)
    close(sample)


def tools(rng: random.Random, corpus: Corpus) -> Sample:
    """One to three questions for one to four declared tools, sometimes one that needs a tool which is not declared."""
    sample = Sample(kind="tools")
    first = tool_task(rng, corpus.words)
    others = [tool_task(rng, corpus.words) for _ in range(rng.randint(0, 3))]
    tasks = [
        first,
        *[
            t
            for n, t in enumerate(others)
            if t.tool.topic not in {first.tool.topic, *(o.tool.topic for o in others[:n])}
        ],
    ]
    rng.shuffle(tasks)
    missing = rng.random() < 0.15
    declared = [t.tool for t in tasks[1:]] if missing else [t.tool for t in tasks]
    open_system(sample, rng, declared)
    sample.kind = "missing" if missing else "tools"
    if missing:
        start = turn_user(sample, tasks[0].question)
        find_tool(sample, tasks[0], start, -1)
        plain(sample, NOTHING)
        tasks = tasks[1:2] if rng.random() < 0.5 else []
    for task in rng.sample(tasks, min(len(tasks), rng.randint(1, 3))):
        again = tool_task(rng, corpus.words, task.tool) if rng.random() < 0.5 else task
        tool_turn(sample, again, rng)
    return sample


def chat(rng: random.Random, corpus: Corpus) -> Sample:
    """Greetings and their kin, and a question that nothing was given for."""
    sample = Sample(kind="chat")
    open_system(
        sample, rng, [tool_task(rng, corpus.words).tool for _ in range(rng.randint(0, 2))] if rng.random() < 0.3 else []
    )
    if rng.random() < 0.2 and "Tools:" not in sample.text:
        turn_user(sample, ask(rng, content(rng.choice(rng.choice(corpus.paragraphs)[1:]))[:2] or ["it"]))
        plain(sample, NOTHING)
    for forms, answer in rng.sample(CHAT, rng.randint(1, 3)):
        turn_user(sample, dress(rng, rng.choice(forms).capitalize() + rng.choice(["", ".", "!", "?"])))
        plain(sample, answer)
    return sample


def draw(rng: random.Random, corpus: Corpus, stage: float) -> Sample:
    """A sample of the mix; `stage` from 0 to 1 goes from single sentences to several longer passages."""
    roll = rng.random()
    if roll < 0.45:
        return tools(rng, corpus)
    if roll < 0.49:
        return chat(rng, corpus)
    if rng.random() > stage:  # short ones never disappear: they are the surest teacher of looking up
        return grounded(rng, corpus, rng.choice([1, 2, 2, 3]), 1, 4)
    if rng.random() < 0.05:
        return grounded(rng, corpus, 3, 6, 4)
    return grounded(rng, corpus, rng.choice([1, 1, 2, 2, 3]), rng.choice([2, 3, 4]), 4)
