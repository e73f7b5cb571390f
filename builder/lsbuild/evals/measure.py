"""Asks questions through a function that is passed in, and judges what comes; it knows neither HTTP nor services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from lsbuild.evals.metrics import NAME, auc, mean, value
from lsbuild.evals.questions import Answer, Question
from lsbuild.evals.result import Asked, Place, Result

Search = Callable[[str], Sequence[Place]]
"""The best passages for a question, best first."""

SHOWN = 3
"""Passages of each question that a result names."""
STANDARD = ("recall@1", "recall@5", "recall@10", "success@5", "mrr", "ndcg@10")
"""Measures of a search that are always taken, as far as its depth allows."""
AGENT = ("answered", "cited", "declined")
"""Measures of an agent: the answer holds an expected text; a citation touches the right lines (and for questions
without answer in the documents: nothing was cited)."""


class Said(Struct, frozen=True):
    """An agent's answer with its citations."""

    text: str
    citations: tuple[Place, ...]


def holds(answer: Answer, place: Place) -> bool:
    """Whether a passage holds a right place. What the server does not tell (lines, heading) is not asked for."""
    if not fnmatchcase(place.file, answer.file):
        return False
    if answer.span and place.first and not (place.first <= answer.span[1] and answer.span[0] <= place.last):
        return False
    if answer.span and not place.first and not answer.text:
        return False
    if answer.heading and answer.heading.casefold() not in place.heading.casefold():
        return False
    return _plain(answer.text) in _plain(place.text)


def store(
    name: str, questions: Sequence[Question], searches: Mapping[str, Search], k: int, wanted: Iterable[str] = ()
) -> Result:
    """Measure a store. ``searches`` are by mode, the mode in question first; ``wanted`` are measures beside STANDARD."""
    named = [each for each in dict.fromkeys((*STANDARD, *wanted)) if NAME.fullmatch(each)]
    names = [each for each in named if int(each.partition("@")[2] or 1) <= k]
    mode, *others = searches
    asked, metrics = _searched(questions, searches[mode], k, names)
    groups = {
        group: _means([(q, a) for q, a in zip(questions, asked, strict=True) if q.group == group and q.answers], names)
        for group in dict.fromkeys(q.group for q in questions if q.group and q.answers)
    }
    return Result(
        api="vector_io",
        target=name,
        mode=mode,
        k=k,
        questions=sum(bool(q.answers) for q in questions),
        unanswerable=sum(not q.answers for q in questions),
        metrics=metrics,
        groups=groups,
        modes={other: _searched(questions, searches[other], k, names)[1] for other in others},
        asked=tuple(asked),
    )


def agent(name: str, questions: Sequence[Question], ask: Callable[[str], Said]) -> Result:
    """Measure an agent."""
    asked = [_answered(question, ask(question.question)) for question in questions]
    rows = list(zip(questions, asked, strict=True))

    def metrics(chosen: Sequence[tuple[Question, _Judged]]) -> dict[str, float]:
        taken = {
            "answered": [each.answered for _, each in chosen if each.answered is not None],
            "cited": [each.cited for question, each in chosen if question.answers],
            "declined": [each.cited for question, each in chosen if not question.answers],
        }
        return {name: round(mean(values), 4) for name, values in taken.items() if values}

    groups = dict.fromkeys(question.group for question in questions if question.group and question.answers)
    return Result(
        api="agents",
        target=name,
        mode="",
        k=0,
        questions=sum(bool(q.answers) for q in questions),
        unanswerable=sum(not q.answers for q in questions),
        metrics=metrics(rows),
        groups={group: metrics([row for row in rows if row[0].group == group]) for group in groups},
        asked=tuple(each.asked for each in asked),
    )


def _searched(
    questions: Sequence[Question], search: Search, k: int, names: Sequence[str]
) -> tuple[list[Asked], dict[str, float]]:
    asked: list[Asked] = []
    right: list[float] = []
    wrong: list[float] = []
    for question in questions:
        places = list(search(question.question))[:k]
        ranks = tuple(
            next((rank for rank, place in enumerate(places, 1) if holds(answer, place)), None)
            for answer in question.answers
        )
        (right if question.answers else wrong).append(places[0].score if places else 0.0)
        asked.append(
            Asked(
                question=question.question,
                group=question.group,
                expected=tuple(answer.label for answer in question.answers),
                came=tuple(place.label for place in places[:SHOWN]),
                score=round(value("mrr", ranks, ()), 4) if ranks else 0.0,
                ranks=ranks,
            )
        )
    pairs = [(question, each) for question, each in zip(questions, asked, strict=True) if question.answers]
    metrics = _means(pairs, names)
    if right and wrong:
        metrics["separation"] = round(auc(right, wrong), 4)
    return asked, metrics


def _means(pairs: Sequence[tuple[Question, Asked]], names: Sequence[str]) -> dict[str, float]:
    return {
        name: round(mean([value(name, asked.ranks, [each.grade for each in q.answers]) for q, asked in pairs]), 4)
        for name in names
    }


class _Judged(Struct, frozen=True):
    """A question as asked; ``answered`` is None when no text is expected, ``cited`` also says that citing nothing was right."""

    asked: Asked
    answered: bool | None
    cited: bool


def _answered(question: Question, said: Said) -> _Judged:
    texts = [_plain(answer.text) for answer in question.answers if answer.text]
    answered = any(text in _plain(said.text) for text in texts) if texts else None
    places = [Answer(file=answer.file, lines=answer.lines, heading=answer.heading) for answer in question.answers]
    right = any(holds(place, citation) for place in places for citation in said.citations)
    cited = right if question.answers else not said.citations
    asked = Asked(
        question=question.question,
        group=question.group,
        expected=tuple(answer.label for answer in question.answers),
        came=tuple(citation.label for citation in said.citations),
        score=mean([each for each in (answered, cited) if each is not None]),
        said=said.text,
    )
    return _Judged(asked, answered, cited)


def _plain(text: str) -> str:
    return " ".join(text.split())
