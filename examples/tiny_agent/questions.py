"""Question forms and invented facts: how users of documentation ask, and word forms; pure data and pure functions."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

STOP = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "all",
        "also",
        "although",
        "always",
        "an",
        "and",
        "another",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "cannot",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "done",
        "each",
        "either",
        "else",
        "even",
        "every",
        "explain",
        "few",
        "find",
        "following",
        "for",
        "from",
        "get",
        "gets",
        "give",
        "given",
        "had",
        "has",
        "have",
        "having",
        "help",
        "here",
        "how",
        "however",
        "i",
        "if",
        "in",
        "instead",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "just",
        "like",
        "made",
        "make",
        "makes",
        "many",
        "may",
        "me",
        "mean",
        "means",
        "might",
        "more",
        "most",
        "much",
        "must",
        "my",
        "need",
        "needs",
        "no",
        "nor",
        "not",
        "note",
        "of",
        "on",
        "once",
        "one",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "please",
        "same",
        "see",
        "should",
        "show",
        "since",
        "so",
        "some",
        "such",
        "take",
        "tell",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "thing",
        "this",
        "those",
        "through",
        "thus",
        "to",
        "too",
        "two",
        "under",
        "until",
        "up",
        "upon",
        "us",
        "use",
        "used",
        "uses",
        "using",
        "very",
        "via",
        "want",
        "was",
        "way",
        "we",
        "were",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "while",
        "who",
        "whose",
        "why",
        "will",
        "with",
        "within",
        "without",
        "work",
        "works",
        "would",
        "you",
        "your",
        "happens",
        "say",
        "says",
        "know",
    ]
)

QUESTIONS = [
    "What is {}?",
    "What does {} do?",
    "How do I {}?",
    "What about {}?",
    "Tell me about {}.",
    "What is a {}?",
    "Where is {}?",
    "What is the {}?",
    "What does {} mean?",
    "How can I use {}?",
    "Explain {}.",
    "When do I need {}?",
    "Which {}?",
    "{}?",
    "What do you know about {}?",
    "Can I use {}?",
    "How does {} work?",
    "What happens with {}?",
    "Is there a {}?",
    "Why {}?",
    "How do I {} the {}?",
    "What does the {} {} contain?",
    "Where is the {} of the {}?",
    "What is {} {}?",
    "Which {} does {} use?",
    "What is the {} {}?",
    "How do I set the {} of {}?",
    "Can I {} a {}?",
    "When is {} {}?",
    "Tell me about {} and {}.",
    "{} {}?",
    "How many {} does {} have?",
    "What does {} do with {}?",
    "Does {} {}?",
    "Which command {} the {}?",
    "How is {} {}?",
    "What happens to {} when {}?",
    "Why is the {} {}?",
    "How do {} and {} work?",
    "What is the default {} for {}?",
    "Where do I find {} {}?",
    "How do I {} a {} with {}?",
    "What does {} {} do for {}?",
    "What is the {} {} of {}?",
    "When does {} {} the {}?",
    "{} {} {}?",
    "Which {} is used by {} for {}?",
    "Can {} {} a {}?",
    "What is said about {}, {} and {}?",
    "How does {} {} {}?",
    "Why does {} {} {}?",
    "Is the {} {} a {}?",
    "Where does {} {} the {}?",
    "How can I {} {} {}?",
    "Does the {} {} {}?",
    "How does the {} {} the {} {}?",
    "What is the {} of {} in {} {}?",
    "{} {} {} {}?",
    "When is the {} {} {} by {}?",
    "Can I {} the {} of a {} {}?",
    "Why do {} {} {} {}?",
    "Which {} {} {} the {}?",
]


def stem(word: str) -> str:
    """A rough stem: enough to see that `files` names `file`, `storing` names `store`."""
    word = word.lower()
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "ls" else word


def inflect(rng: random.Random, word: str) -> str:
    """The word in another of its likely forms: plural, singular or a verb form."""
    if not re.fullmatch(r"[A-Za-z][a-z]{3,}", word):
        return word
    if word.endswith("ing") or word.endswith("ed"):
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    if word.endswith("e"):
        return rng.choice([word + "s", word + "d", word[:-1] + "ing"])
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return rng.choice([word + "s", word + "s", word + "ed", word + "ing"])


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence with slots and the questions it answers; `keys` are the slots that a question is found by."""

    text: str
    questions: tuple[str, ...]
    keys: str

    def fill(self, rng: random.Random, words: list[str], shared: list[str]) -> tuple[str, str, list[str]]:
        """(sentence, question, the words that find it); `shared` words may fall into any slot, which makes neighbours alike."""
        pick = {slot: rng.choice(words) for slot in "nmpv"}
        if shared and rng.random() < 0.5:
            pick[rng.choice("nmp")] = rng.choice(shared)
        if rng.random() < 0.25:
            pick["n"] += " " + rng.choice(words)
        pick["N"] = rng.choice([pick["n"].capitalize(), "The " + pick["n"]])
        pick["c"] = f"{rng.choice(words)[:8]} {rng.choice(words)}"
        pick["f"] = "--" + rng.choice(words)
        pick["d"] = rng.choice(["/etc/{}/{}", "~/.{}/{}", "{}/{}.yaml", "{}/{}.json", "/var/lib/{}/{}"]).format(
            rng.choice(words), rng.choice(words)
        )
        pick["x"] = str(rng.choice([rng.randint(2, 99), rng.randint(100, 9999), rng.randint(1, 30) * 10]))
        found = " ".join(pick[k] for k in self.keys).split(" ")
        return self.text.format(**pick), rng.choice(self.questions).format(**pick), found


FACTS = [
    Fact(
        "The {n} file contains the {m} of each {p}.",
        ("What does the {n} file contain?", "what is in the {n} file", "What does the {n} file hold?"),
        "n",
    ),
    Fact(
        "The {n} file records every {m} and its {p}.",
        ("What does the {n} file contain?", "What does the {n} file record?"),
        "n",
    ),
    Fact(
        "Run `{c}` to {v} the {n}.",
        ("How do I {v} the {n}?", "Which command do I use to {v} the {n}?", "How can I {v} a {n}?"),
        "vn",
    ),
    Fact(
        "The command `{c}` prints the {n} and changes nothing.",
        ("Which command prints the {n}?", "How do I see the {n}?", "How do I print the {n}?"),
        "n",
    ),
    Fact(
        "Set `{m}_{p}` to change the {n}.",
        ("How do I change the {n}?", "How do I set the {n}?", "Which setting changes the {n}?"),
        "n",
    ),
    Fact(
        "The {n} is set with `{f}` or in `{d}`.",
        ("How do I set the {n}?", "Where is the {n} set?", "How do I configure the {n}?"),
        "n",
    ),
    Fact(
        "The default {n} is {x}.",
        ("What is the default {n}?", "Which {n} is the default?", "what is the {n} by default"),
        "n",
    ),
    Fact(
        "By default, {n} listens on port {x}.",
        ("Which port does {n} use?", "What port does {n} listen on?", "What is the port of {n}?"),
        "n",
    ),
    Fact(
        "The {n} is stored in `{d}`.",
        ("Where is the {n} stored?", "Where do I find the {n}?", "Where is the {n}?"),
        "n",
    ),
    Fact(
        "Use the `{f}` option to {v} the {n} of a {m}.",
        ("How do I {v} the {n}?", "Which option {v}s the {n}?", "How do I {v} the {n} of a {m}?"),
        "vn",
    ),
    Fact(
        "{N} needs {m} {x} or newer.",
        ("What does {n} need?", "Which {m} does {n} need?", "What are the requirements of {n}?"),
        "n",
    ),
    Fact("A {n} is a {m} that can {v} any {p}.", ("What is a {n}?", "What does {n} mean?", "Explain {n}."), "n"),
    Fact(
        "To {v} a {n}, add it to the {m} section of `{d}`.",
        ("How do I {v} a {n}?", "How can I {v} the {n}?", "Where do I {v} a {n}?"),
        "vn",
    ),
    Fact(
        "{N} does not {v} the {p} on {m}.",
        ("Does {n} {v} the {p}?", "Can {n} {v} the {p} on {m}?", "Does {n} work on {m}?"),
        "n",
    ),
    Fact(
        "The {n} times out after {x} seconds.",
        (
            "When does the {n} time out?",
            "How long is the {n} timeout?",
            "After how many seconds does the {n} time out?",
        ),
        "n",
    ),
    Fact(
        "If the {n} is missing, the {m} stops with exit code {x}.",
        ("What happens if the {n} is missing?", "What happens without a {n}?", "What if there is no {n}?"),
        "n",
    ),
    Fact(
        "At most {x} {n} may be open at once.",
        ("How many {n} may be open?", "What is the limit of {n}?", "How many {n} can I open at once?"),
        "n",
    ),
    Fact("{N} was written by the {m} team in {x}.", ("Who wrote {n}?", "When was {n} written?", "Who made {n}?"), "n"),
    Fact(
        "The {n} costs {x} credits per {p}.",
        ("How much does the {n} cost?", "What is the price of the {n}?", "What does the {n} cost?"),
        "n",
    ),
    Fact(
        "Every {n} is checked against its {m} before the {p} starts.",
        ("When is the {n} checked?", "What is checked before the {p} starts?", "How is a {n} checked?"),
        "n",
    ),
    Fact(
        "{N} supports {m}, {v} and {p}.",
        ("What does {n} support?", "Which formats does {n} support?", "Does {n} support {m}?"),
        "n",
    ),
    Fact(
        "Delete `{d}` to reset the {n}.",
        ("How do I reset the {n}?", "How can I clear the {n}?", "How do I delete the {n}?"),
        "n",
    ),
    Fact(
        "The {n} of the {m} must be shorter than {x} characters.",
        ("How long may the {n} be?", "How long can the {n} of the {m} be?", "What is the maximum length of the {n}?"),
        "n",
    ),
    Fact(
        "{N} is released under the {m} licence.",
        ("What is the licence of {n}?", "Which licence does {n} have?", "Under which licence is {n} released?"),
        "n",
    ),
    Fact(
        "Without `{f}`, the {n} is only shown and not written.",
        ("When is the {n} written?", "Why is the {n} not written?", "Is the {n} written?"),
        "n",
    ),
]
