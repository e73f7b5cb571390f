"""A store with a reranker, from the spec to Llama Stack's client: the artifact answers in the order its weights say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ogx_client import OgxClient

from artifact_tools import Lsbuild, booted, compiled, post
from onnx_compile_models import ENCODERS, encoder_tensors, write_checkpoint
from overlap_reranker import write_overlap

WORDS = ["the", "red", "blue", "pump", "needs", "oil", "every", "week", "no", "a", "valve", "closes", "slowly"]
MANUAL = "The red pump needs oil every week.\n\n# Blue\n\nThe blue pump needs no oil.\n\n# Valves\n\nA valve closes slowly.\n"
SPEC = {
    "name": "reranked",
    "models": {"embed": {"type": "embedding", "source": "./embed"}, "judge": {"type": "rerank", "source": "./judge"}},
    "vector_stores": {
        "manuals": {
            "embedding": "embed",
            "sources": ["manual.md"],
            "chunk": {"tokens": 16, "overlap": 0},
            "rerank": "judge",
        }
    },
}


@pytest.fixture(scope="module")
def artifact(lsbuild: Lsbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reranked")
    write_checkpoint(folder / "embed", ENCODERS["bert"], encoder_tensors(ENCODERS["bert"], spread=0.1))
    write_overlap(folder / "judge", WORDS)
    (folder / "manual.md").write_text(MANUAL)
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    return compiled(lsbuild, folder / "spec.yaml", folder / "out")


@pytest.fixture(scope="module")
def base(artifact: Path) -> Iterator[str]:
    with booted(artifact) as found:
        yield found


def test_verify_asks_the_reranker(lsbuild: Lsbuild, artifact: Path) -> None:
    done = lsbuild("verify", artifact, "--json")
    assert done.code == 0, done.out
    assert {"rerank judge", "vector_io manuals"} <= {check["name"] for check in done.json["checks"]}


def test_llama_stack_s_client_ranks_items(base: str) -> None:
    with OgxClient(base_url=base, max_retries=0) as client:
        found: Any = client.alpha.inference.rerank(
            model="judge", query="red pump oil", items=["a valve closes slowly", "red pump"], max_num_results=1
        )
        assert [(data.index, data.relevance_score > 0.9) for data in found] == [(1, True)]
        models = {model.id: model.custom_metadata or {} for model in client.models.list().data}
    assert models["judge"]["model_type"] == "rerank"


def test_a_search_is_ranked_again(base: str) -> None:
    query = "every week a valve closes slowly valves pump"

    def texts(**options: Any) -> list[str]:
        page = post(f"{base}/v1/vector_stores/manuals/search", {"query": query, **options})
        return [hit["content"][0]["text"] for hit in page["data"]]

    ranked, plain = texts(), texts(ranking_options={"ranker": "none"})
    assert sorted(ranked) == sorted(plain) and len(ranked) == 3
    documents = [HEADINGS.get(text[:8], "") + text for text in plain]
    scored = post(f"{base}/v1/rerank", {"model": "judge", "query": query, "documents": documents})
    assert ranked == [plain[result["index"]] for result in scored["results"]]
    assert ranked[0] == "A valve closes slowly."


HEADINGS = {"The blue": "Blue\n", "A valve ": "Valves\n"}
