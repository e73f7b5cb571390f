"""Passages and the questions one of their sentences answers, from a corpus or invented; pure functions of a random generator."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from questions import FACTS, QUESTIONS, STOP, inflect, stem


@dataclass(frozen=True, slots=True)
class Passage:
    heading: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the (passage, sentence) that answers it or None, and the words that should find it."""

    text: str
    target: tuple[int, int] | None
    words: tuple[str, ...]


def content(sentence: str) -> list[str]:
    """The words of a sentence that a question could name, in order."""
    return [w for w in re.findall(r"[A-Za-z][A-Za-z-]+[A-Za-z]|\d{2,}", sentence) if w.lower() not in STOP]


def stems(sentence: str) -> set[str]:
    return {stem(w) for w in re.findall(r"[A-Za-z]+|\d+", sentence)}


def ask(rng: random.Random, words: list[str]) -> str:
    """A question in one of many forms that names these words."""
    words = [inflect(rng, w) if rng.random() < 0.25 else w for w in words]
    words = [w.lower() if w[1:].islower() and rng.random() < 0.8 else w for w in words]
    form = rng.choice([q for q in QUESTIONS if q.count("{}") == len(words)]).format(*words)
    return dress(rng, form)


def dress(rng: random.Random, form: str) -> str:
    """Case and punctuation as people type them."""
    roll = rng.random()
    if roll < 0.25:
        form = form[0].lower() + form[1:]
    if roll > 0.8:
        form = form.rstrip("?.")
    return form.upper() if roll > 0.995 else form


def score(words: list[str], passages: list[Passage]) -> dict[tuple[int, int], int]:
    """For each sentence, how many of the words it has; a heading counts for nothing."""
    wanted = {stem(w) for w in words}
    return {
        (p, s): len(wanted & stems(text))
        for p, passage in enumerate(passages)
        for s, text in enumerate(passage.sentences)
    }


def question(rng: random.Random, passages: list[Passage], foreign: list[str]) -> Question | None:
    """A question one sentence answers best, or (from foreign sentences) one that none answers; None if the draw fails."""
    absent = rng.random() < 0.24
    target = None
    if absent:
        pool = content(rng.choice(foreign))
    else:
        p = rng.randrange(len(passages))
        target = (p, rng.randrange(len(passages[p].sentences)))
        pool = content(passages[p].sentences[target[1]])
    if not pool:
        return None
    count = min(len(pool), rng.choice([1, 2, 2, 2, 3, 3, 4]))
    if rng.random() < 0.5:
        at = rng.randrange(len(pool) - count + 1)
        words = pool[at : at + count]
    else:
        words = rng.sample(pool, count)
    found = score(words, passages)
    best = max(found.values())
    distinct = len({stem(w) for w in words})
    if absent:
        return Question(ask(rng, words), None, tuple(words)) if best <= distinct // 3 else None
    if found[target] < distinct or sum(v >= distinct for v in found.values()) > 1:
        return None
    if count in (2, 3) and rng.random() < 0.25:  # a word the passage does not have: most of the others still decide
        extra = rng.choice(content(rng.choice(foreign)) or ["thing"])
        if not any(score([extra], passages).values()):
            words = [*words, extra]
            rng.shuffle(words)
    return Question(ask(rng, words), target, tuple(words))


class Corpus:
    """Paragraphs to draw from, and the words to invent facts with."""

    def __init__(self, documents: list[list[list[str]]]) -> None:
        self.documents = [[p for p in d if len(p) > 1] for d in documents]
        self.documents = [d for d in self.documents if d]
        self.paragraphs = [p for d in self.documents for p in d]
        counts: dict[str, int] = {}
        for paragraph in self.paragraphs:
            for word in re.findall(r"(?<= )[a-z]{4,11}(?= )", " ".join(paragraph[1:])):
                counts[word] = counts.get(word, 0) + 1
        self.words = [w for w, n in counts.items() if n >= 8 and w not in STOP]
        alike: dict[str, list[str]] = {}
        for paragraph in self.paragraphs:
            for sentence in paragraph[1:]:
                alike.setdefault(" ".join(sentence.split(" ")[:2]), []).append(sentence)
        self.alike = [list(dict.fromkeys(group)) for group in alike.values() if len(set(group)) >= 8]

    def passage(self, rng: random.Random, document: list[list[str]], longest: int) -> Passage:
        heading, *found = rng.choice(document)
        count = rng.randint(1, min(longest, len(found)))
        at = rng.randrange(len(found) - count + 1)
        title = ""
        if rng.random() < 0.3:
            title = " > ".join(
                filter(None, [rng.choice(["Guide", "Manual", "Docs", rng.choice(self.words).title()]), heading])
            )
        return Passage(title, tuple(found[at : at + count]))

    def real(self, rng: random.Random, count: int, longest: int) -> list[Passage]:
        """Passages of one document, or of several; longer ones are made of neighbouring paragraphs."""
        if rng.random() < 0.2:  # neighbours that begin alike: a copy must not slip from one into another
            group = rng.sample(self.alike, 2)
            drawn = iter(rng.sample(group[0], 8) + rng.sample(group[1], 8))
            return [
                Passage("", tuple(next(drawn) for _ in range(rng.randint(1, min(longest, 4))))) for _ in range(count)
            ]
        one = rng.choice(self.documents)
        chosen = [one if rng.random() < 0.6 else rng.choice(self.documents) for _ in range(count)]
        made = []
        for document in chosen:
            passage = self.passage(rng, document, longest)
            while len(passage.sentences) < longest and rng.random() < 0.5:
                more = self.passage(rng, document, longest - len(passage.sentences))
                passage = Passage(passage.heading, tuple(dict.fromkeys(passage.sentences + more.sentences)))
            made.append(passage)
        return made

    def invented(self, rng: random.Random, count: int, longest: int) -> tuple[list[Passage], list[Question]]:
        """Passages of invented facts whose neighbours share a form or a word, and a natural question for each fact."""
        passages: list[Passage] = []
        questions: list[Question] = []
        shared = rng.sample(self.words, 3)
        forms = rng.sample(FACTS, rng.randint(1, 3))
        for p in range(count):
            made = []
            for s in range(rng.randint(1, longest)):
                fact = rng.choice(forms) if rng.random() < 0.5 else rng.choice(FACTS)
                text, asked, words = fact.fill(rng, self.words, shared)
                made.append(text)
                questions.append(Question(dress(rng, asked), (p, s), tuple(words)))
            passages.append(Passage("", tuple(made)))
        good = [
            q
            for q in questions
            if (f := score(list(q.words), passages))
            and f[q.target] == max(f.values())  # type: ignore[index]
            and list(f.values()).count(max(f.values())) == 1
        ]
        for _ in range(1 + len(good) // 3):
            _, asked, words = rng.choice(forms).fill(rng, self.words, [])
            if not any(score(list(words), passages).values()):
                good.append(Question(dress(rng, asked), None, tuple(words)))
        rng.shuffle(good)
        return passages, good
