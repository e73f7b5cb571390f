"""Scores of a served cross-encoder: the order that its weights say, pairs that fit, limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from lsbuild_plugins.onnx.serve import format as model_format
from lsbuild_plugins.onnx.serve.pairs import logistic
from lsbuild_plugins.onnx.serve.reranker import CrossEncoder, open_reranker
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.watch import JsonWatch
from onnx_serve_models import NoHost, service
from overlap_reranker import compile_overlap

WORDS = ["the", "red", "blue", "pump", "needs", "oil", "every", "week", "no", "a", "valve", "closes", "slowly"]
QUERY = "red pump oil"
PASSAGES = ["a valve closes slowly", "the red pump needs oil every week", "red oil pump", "the blue pump needs no oil"]
ORDER = [2, 1, 3, 0]
"""By the share of words that stand in the query: 3/3, 3/7, 2/6, 0/4."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_overlap(tmp_path_factory.mktemp("overlap"), WORDS)


@pytest.fixture(scope="module")
def judge(folder: Path) -> CrossEncoder:
    return open_reranker(service("judge"), folder, NoHost())


def best_first(judge: CrossEncoder, query: str, passages: Sequence[str]) -> list[int]:
    scores = judge.score(query, passages, Context()).values
    return sorted(range(len(passages)), key=lambda place: -scores[place])


@pytest.mark.parametrize("quantize", ["none", "int8", "int8-fast"])
def test_the_order_is_that_of_the_weights(tmp_path: Path, quantize: str) -> None:
    judge = open_reranker(service("judge"), compile_overlap(tmp_path, WORDS, quantize), NoHost())
    assert best_first(judge, QUERY, PASSAGES) == ORDER
    assert best_first(judge, "valve", PASSAGES)[0] == 0
    scores = judge.score(QUERY, PASSAGES, Context()).values
    assert all(0 < score < 1 for score in scores) and scores[2] > 0.9 and scores[0] < 0.1


@pytest.mark.parametrize("quantize", ["none", "int8", "int8-fast"])
def test_a_score_is_the_same_alone_and_in_company(tmp_path: Path, quantize: str) -> None:
    judge = open_reranker(service("judge"), compile_overlap(tmp_path, WORDS, quantize), NoHost())
    many = [*PASSAGES, *PASSAGES[::-1], "no", "every week"] * 3
    together = judge.score(QUERY, many, Context()).values
    alone = [judge.score(QUERY, [passage], Context()).values[0] for passage in many]
    assert together == pytest.approx(alone, abs=1e-6)


def test_the_passage_is_cut_and_the_query_never(tmp_path: Path) -> None:
    judge = open_reranker(service("judge"), compile_overlap(tmp_path, WORDS, context=16), NoHost())
    long = "a valve closes " * 20 + QUERY
    cut, short = judge.score(QUERY, [long, "a valve closes " * 4], Context()).values
    assert cut == pytest.approx(short, abs=0.02)  # what stands behind the cut is not read
    assert judge.score(QUERY, [long, QUERY], Context()).tokens == 16 + 9
    assert judge.score("red " * 6, ["red"], Context()).tokens == 3 + 6 + 1
    with pytest.raises(ApiError, match=r"query has 7 tokens; model 'judge' reads at most 6") as error:
        judge.score("red " * 7, ["red"], Context())
    assert (error.value.status, error.value.param, error.value.code) == (400, "query", "context_length_exceeded")


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_refused(judge: CrossEncoder, query: str) -> None:
    with pytest.raises(ApiError, match="query is empty") as error:
        judge.score(query, ["red"], Context())
    assert error.value.status == 400


def test_empty_passages_have_scores_and_no_passages_have_none(judge: CrossEncoder) -> None:
    assert judge.score(QUERY, [], Context()).values == ()
    assert all(0 < score < 1 for score in judge.score(QUERY, ["", "red"], Context()).values)


def test_many_threads_get_the_same_scores(judge: CrossEncoder) -> None:
    expected = judge.score(QUERY, PASSAGES, Context())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: judge.score(QUERY, PASSAGES, Context()), range(16)))
    assert all(each.values == pytest.approx(expected.values, abs=1e-6) for each in found)


def test_a_cancelled_request_stops(judge: CrossEncoder) -> None:
    context = Context()
    context.cancel.set()
    with pytest.raises(Cancelled):
        judge.score(QUERY, PASSAGES, context)


def test_a_span_tells_the_tokens(judge: CrossEncoder) -> None:
    lines: list[str] = []
    watch = JsonWatch("r", lines.append)
    with watch.span("http.server.request"):
        found = judge.score(QUERY, PASSAGES, Context(watch=watch))
    line = msgspec.json.decode(lines[0])
    assert line["gen_ai.usage.input_tokens"] == found.tokens == line["counts"]["gen_ai.client.token.usage"]
    assert line["lsbuild.rerank.passages"] == len(PASSAGES)


def test_a_folder_of_another_model_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    model_format.write(tmp_path, model_format.Encoder(dimensions=3, max_tokens=8))
    with pytest.raises(ApiError, match="a reranker was expected") as error:
        open_reranker(service("judge"), tmp_path, NoHost())
    assert error.value.status == 503


def test_a_graph_that_differs_from_its_card_is_refused(tmp_path: Path, folder: Path) -> None:
    for name in ("model.onnx", "model.data", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    model_format.write(tmp_path, model_format.Reranker(max_tokens=64))
    with pytest.raises(ApiError, match=r"inputs differ from model\.json: token_type_ids"):
        open_reranker(service("judge"), tmp_path, NoHost())


@pytest.mark.parametrize("x", [-800.0, -40.0, -1.0, 0.0, 2.5, 40.0, 800.0])
def test_the_logistic_function_holds_everywhere(x: float) -> None:
    assert logistic(x) == pytest.approx(0.5 * (1 + math.tanh(x / 2)), abs=1e-15)
    assert logistic(30.0) < logistic(31.0) < 1.0
