"""What counts as found, what a result says, and what a missed gate tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild.errors import GateError, VerifyError
from lsbuild.evals import gates, measure, result, table
from lsbuild.evals.measure import Said, holds
from lsbuild.evals.questions import Answer, Question
from lsbuild.evals.remote import Server
from lsbuild.evals.result import Place

PLACE = Place(
    file="docs/a.md", text="The pump\n  is in the cellar.", heading="House > Pump", first=10, last=12, score=0.5
)


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (Answer(file="docs/a.md"), True),
        (Answer(file="docs/*.md", lines="12-20"), True),
        (Answer(file="docs/a.md", lines=9), False),
        (Answer(file="a.md"), False),
        (Answer(file="docs/a.md", text="pump is in the"), True),
        (Answer(file="docs/a.md", text="Pump is"), False),
        (Answer(file="docs/a.md", heading="house > pump"), True),
        (Answer(file="docs/a.md", heading="Garden"), False),
        (Answer(file="docs/a.md", lines=9, text="The pump"), False),
    ],
)
def test_a_passage_holds_a_place_when_every_condition_does(answer: Answer, held: bool) -> None:
    assert holds(answer, PLACE) is held


def test_a_server_that_tells_no_lines_is_judged_by_the_text_alone() -> None:
    place = Place(file="docs/a.md", text="The pump is in the cellar.")
    assert holds(Answer(file="docs/a.md", lines=9, text="The pump"), place)
    assert not holds(Answer(file="docs/a.md", lines=9), place)


def passage(number: int, score: float = 0.5) -> Place:
    return Place(file="a.md", text=f"text {number}", first=number, last=number, score=score)


QUESTIONS = (
    Question(question="one", group="g", answers=(Answer(file="a.md", lines=1),)),
    Question(question="two", group="h", answers=(Answer(file="a.md", lines=2), Answer(file="a.md", lines=3))),
    Question(question="gone", group="h", answers=(Answer(file="b.md", lines=2),)),
    Question(question="no answer"),
)
FOUND = {
    "one": [passage(9), passage(1)],
    "two": [passage(2), passage(3)],
    "gone": [passage(2, 0.4)],
    "no answer": [passage(2, 0.1)],
}


def test_a_store_is_measured_over_what_can_be_answered() -> None:
    found = measure.store("docs", QUESTIONS, {"hybrid": FOUND.__getitem__, "none": lambda _: []}, 5, ["recall@2"])
    assert (found.questions, found.unanswerable, found.mode) == (3, 1, "hybrid")
    assert found.metrics["recall@1"] == pytest.approx(0.5 / 3, abs=1e-4)
    assert found.metrics["recall@2"] == found.metrics["success@5"] == pytest.approx(2 / 3, abs=1e-4)
    assert found.metrics["mrr"] == 0.5
    assert found.metrics["separation"] == 1
    assert "recall@10" not in found.metrics
    assert found.groups["h"]["recall@2"] == 0.5
    assert found.modes["none"]["mrr"] == 0
    assert [each.question for each in found.worst(5)] == ["gone", "one"]


def test_an_agent_is_measured_by_its_words_and_its_citations() -> None:
    questions = (
        Question(question="both", answers=(Answer(file="a.md", lines=1, text="the  cellar"),)),
        Question(question="words only", answers=(Answer(file="a.md", lines=1, text="the cellar"),)),
        Question(question="nothing known"),
        Question(question="invented"),
    )
    said = {
        "both": Said("It is in the\ncellar [1].", (passage(1),)),
        "words only": Said("in the cellar", (passage(2),)),
        "nothing known": Said("I do not know.", ()),
        "invented": Said("Certainly.", (passage(2),)),
    }
    found = measure.agent("helper", questions, said.__getitem__)
    assert found.metrics == {"answered": 1.0, "cited": 0.5, "declined": 0.5}


def test_a_missed_gate_names_measure_value_gate_and_the_worst_questions() -> None:
    found = measure.store("docs", QUESTIONS, {"hybrid": FOUND.__getitem__}, 5)
    gates.require({"search": {"mrr": 0.5}}, {"search": found})
    with pytest.raises(GateError) as caught:
        gates.require({"search": {"mrr": 0.5, "recall@5": 0.9}}, {"search": found})
    text = str(caught.value)
    assert text.startswith("evals.search: recall@5 is 0.6667, the gate is 0.9")
    assert "gone" in text
    assert "expected  b.md:2" in text
    assert "came      a.md:2-2" in text


def test_a_measure_that_could_not_be_taken_misses_its_gate() -> None:
    found = measure.store("docs", QUESTIONS[:1], {"hybrid": FOUND.__getitem__}, 5)
    assert [str(miss) for miss in gates.misses("s", {"separation": 0.5}, found)] == ["separation is 0, the gate is 0.5"]


def test_a_result_is_written_and_read_and_shown(tmp_path: Path) -> None:
    found = measure.store("docs", QUESTIONS, {"hybrid": FOUND.__getitem__}, 5)
    result.write(found, tmp_path)
    assert result.read(tmp_path) == found
    shown = {"search": {"mrr": 0.9}}
    text = table.to_text({"search": found}, shown, {"other": "why"}, each=True)
    assert "MISSED  mrr is 0.5, the gate is 0.9" in text
    assert "other: not asked, why" in text
    assert all(question.question in text for question in QUESTIONS)
    body = table.to_dict({"search": found}, shown, {})
    assert body["ok"] is False
    assert body["missed"] == [{"eval": "search", "metric": "mrr", "value": 0.5, "gate": 0.9}]


def test_a_server_is_asked_over_http(url: str) -> None:
    first, second = Server(url).search("docs", "the question", k=2, mode="")
    assert (first.file, first.text, first.first) == ("a.md", "the question", 0)
    assert (second.first, second.last, second.heading) == (2, 4, "H")
    said = Server(url).answer("helper", "the question")
    assert said == Said("said", (Place(file="a.md", first=2, last=2),))


def test_a_server_that_refuses_or_is_not_there_is_an_error(url: str) -> None:
    with pytest.raises(VerifyError, match="404"):
        Server(url).search("docs", "x", k=2, mode="keyword")
    with pytest.raises(VerifyError, match="no answer"):
        Server("http://127.0.0.1:9").search("docs", "x", k=2, mode="")
