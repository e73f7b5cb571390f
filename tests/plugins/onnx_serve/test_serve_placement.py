"""Which provider takes a graph, what is said when it is another one, and what strictness refuses.

No GPU is here: sessions of onnxruntime itself show the fall back and the refusal, a small engine the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from lsbuild_plugins.onnx.serve.accelerated import open_placed, placement
from lsbuild_plugins.onnx.serve.encoder import open_encoder
from lsbuild_plugins.onnx.serve.engine import open_engine
from lsbuild_plugins.onnx.serve.execution import NAMES, Execution, course, of
from lsbuild_plugins.onnx.serve.provider_settings import ROWS, Texts, cuda, tensorrt
from lsbuild_runtime.http import ApiError, Context
from lsbuild_runtime.manifest import Service
from onnx_serve_models import NoHost, service

ALL = tuple(NAMES.values())


def session(*parts: tuple[str, Sequence[str]], providers: Sequence[str] | None = None) -> Any:
    """A session whose operators lie with these providers (our names)."""
    found = [
        SimpleNamespace(ep_name=NAMES[name], get_nodes=lambda kinds=kinds: [SimpleNamespace(op_type=k) for k in kinds])
        for name, kinds in parts
    ]
    registered = [NAMES[name] for name in (providers or [name for name, _ in parts])]
    return SimpleNamespace(get_providers=lambda: registered, get_provider_graph_assignment_info=lambda: found)


def opens(*sessions: Any) -> tuple[Any, list[tuple[str, ...]]]:
    """Gives these one after the other (raises those that are errors), and what it was asked for."""
    left, asked = list(sessions), []

    def open_with(order: tuple[str, ...]) -> Any:
        asked.append(order)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return open_with, asked


def test_the_first_provider_that_can_run_the_graph_is_wanted() -> None:
    execution = Execution(providers=("tensorrt", "cuda", "cpu"))
    assert course(execution, None, ALL).wanted == "tensorrt"
    found = course(execution, ["cuda"], ALL)
    assert (found.wanted, found.order) == ("cuda", ("cuda", "cpu"))
    found = course(execution, [], ALL)
    assert (found.wanted, found.order) == ("cpu", ("cpu",))


def test_a_provider_that_onnxruntime_was_built_without_is_told() -> None:
    found = course(Execution(providers=("cuda", "cpu")), None, ["CPUExecutionProvider"])
    assert found.order == ("cpu",)
    assert found.why == "this onnxruntime has no CUDAExecutionProvider (it has CPUExecutionProvider)"


def test_what_takes_the_graph_is_where_it_runs() -> None:
    open_with, asked = opens(session(("cuda", ["MatMulNBits", "GroupQueryAttention"]), ("cpu", ["Shape", "Gather"])))
    _, found = open_placed(service("m"), Execution(providers=("cuda", "cpu"), strict=True), ALL, open_with)
    assert (found.provider, found.wanted, found.why) == ("cuda", "cuda", "")
    assert found.operators == {"cpu": 2, "cuda": 2}
    assert asked == [("cuda", "cpu")]


def test_heavy_operators_that_a_provider_leaves_are_named() -> None:
    found = placement(session(("cuda", ["MatMulNBits"] * 3), ("cpu", ["GroupQueryAttention"])), "cuda")
    assert found.provider == "cuda"
    assert found.why == "CUDAExecutionProvider left to others: 1 GroupQueryAttention"
    found = placement(session(("tensorrt", ["MatMul"]), ("cuda", ["MatMul"] * 5)), "tensorrt")
    assert found.provider == "cuda"
    assert found.why == "TensorrtExecutionProvider left to cuda: 5 MatMul"


def test_a_provider_that_was_left_out_in_silence_is_seen() -> None:
    silent = session(("cpu", ["MatMul"]), providers=["cpu"])
    open_with, _ = opens(silent)
    _, found = open_placed(
        service("m"), Execution(providers=("cuda", "cpu")), ALL, open_with, lambda wanted: f"{wanted}: no libcuda"
    )
    assert found.provider == "cpu"
    assert "CUDAExecutionProvider could not be started" in found.why
    assert found.why.endswith("(cuda: no libcuda)")


def test_an_onnxruntime_that_does_not_record_operators_is_believed() -> None:
    old = SimpleNamespace(get_providers=lambda: [NAMES["cuda"], NAMES["cpu"]])
    assert placement(old, "cuda").why == ""
    assert placement(old, "tensorrt").why.startswith("TensorrtExecutionProvider could not be started")


def test_the_next_provider_runs_what_the_first_fails_at() -> None:
    open_with, asked = opens(RuntimeError("no kernel image\nis available"), session(("cuda", ["MatMul"])))
    _, found = open_placed(service("m"), Execution(providers=("tensorrt", "cuda", "cpu")), ALL, open_with)
    assert (found.provider, found.wanted) == ("cuda", "tensorrt")
    assert found.why == "TensorrtExecutionProvider failed: no kernel image is available"
    assert asked == [("tensorrt", "cuda", "cpu"), ("cuda", "cpu")]


@pytest.mark.parametrize(
    "found",
    [
        RuntimeError("no kernel image"),
        session(("cpu", ["MatMul"]), providers=["cpu"]),
        session(("cuda", ["MatMul"]), ("cpu", ["GroupQueryAttention"])),
    ],
)
def test_strictness_refuses_whatever_is_not_the_wanted_provider(found: Any) -> None:
    open_with, _ = opens(found)
    with pytest.raises(ApiError, match=r"model 'm': cuda was asked for and does not run it: .*run doctor") as refused:
        open_placed(service("m"), Execution(providers=("cuda", "cpu"), strict=True), ALL, open_with)
    assert refused.value.status == 503


def test_when_nothing_runs_it_the_first_reason_is_told() -> None:
    open_with, _ = opens(RuntimeError("first"), RuntimeError("second"))
    with pytest.raises(ApiError, match="no provider can run it: CUDAExecutionProvider failed: first"):
        open_placed(service("m"), Execution(providers=("cuda", "cpu")), ALL, open_with)


def placed(name: str, **execution: Any) -> Service:
    return service(name, execution=execution)


def test_a_real_encoder_falls_back_to_the_cpu_and_gives_the_same_vectors(encoder_folder: Path) -> None:
    plain = open_encoder(service("e"), encoder_folder, NoHost())
    found = open_encoder(placed("e", providers=["cuda", "cpu"]), encoder_folder, NoHost())
    assert found.placement is not None
    assert (found.placement.provider, found.placement.wanted) == ("cpu", "cuda")
    assert found.placement.operators["cpu"] > 5
    assert "no CUDAExecutionProvider" in found.placement.why
    assert found.embed(["w1 w2"], Context()).vectors == plain.embed(["w1 w2"], Context()).vectors


def test_a_real_decoder_is_refused_where_it_is_strict(float_folder: Path) -> None:
    with pytest.raises(ApiError, match="cuda was asked for and does not run it: this onnxruntime has no CUDA"):
        open_engine(placed("m", providers=["cuda", "cpu"], strict=True), float_folder, NoHost())


def test_a_model_for_the_cpu_alone_may_be_strict(encoder_folder: Path) -> None:
    found = open_encoder(placed("e", providers=["cpu"], strict=True), encoder_folder, NoHost())
    assert found.placement is not None
    assert (found.placement.provider, found.placement.why) == ("cpu", "")


@pytest.mark.parametrize(
    "execution", [{"providers": ["rocm"]}, {"providers": []}, {"presicion": "fp16"}, {"strict": 1}]
)
def test_what_this_runtime_does_not_know_is_refused(execution: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match=r"config\.execution"):
        of(placed("m", **execution))


def test_options_are_in_onnxruntimes_words() -> None:
    execution = msgspec.convert(
        {"providers": ["tensorrt"], "precision": "int8", "workspace": 1 << 30, "memory": 1 << 31, "device": 1},
        Execution,
    )
    found = tensorrt(execution, Texts(("input_ids", "attention_mask"), 256), Path("/state/key"))
    assert found["trt_fp16_enable"] == found["trt_int8_enable"] == "True"
    assert found["trt_max_workspace_size"] == str(1 << 30)
    assert found["trt_engine_cache_path"] == found["trt_timing_cache_path"] == "/state/key"
    assert found["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1"
    assert found["trt_profile_opt_shapes"] == "input_ids:1x128,attention_mask:1x128"
    assert found["trt_profile_max_shapes"] == f"input_ids:{ROWS}x256,attention_mask:{ROWS}x256"
    assert cuda(execution) == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(1 << 31),
    }
    assert "trt_fp16_enable" not in tensorrt(Execution(), None, None)
    assert "trt_engine_cache_enable" not in tensorrt(Execution(), None, None)
