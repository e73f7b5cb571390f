"""What a target's accelerator changes: requirements, and what services are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from pydantic import BaseModel

from lsbuild import accelerating
from lsbuild.api import CPU_ONLY, Accelerator, Compiled, Service, Target

GPU = Accelerator(("cuda", "cpu"), {"strict": True}, {"onnxruntime": ("onnxruntime-gpu>=1.31,<1.32",)})


class Nothing(BaseModel):
    """Options without any."""


def service(name: str, **config: Any) -> Service:
    return Service(api="embeddings", name=name, provider="p", entry="m:f", config=config)


def test_a_target_without_an_accelerator_runs_on_the_cpu() -> None:
    plain = cast("Target", SimpleNamespace())
    assert accelerating.find(plain, Nothing()) is None
    assert accelerating.providers(None) == CPU_ONLY
    items = {("models", "m"): Compiled(services=(service("m"),), wheels=("onnxruntime>=1",))}
    assert accelerating.told(items, None) is items
    assert accelerating.requirements(["numpy>=2"], None) == {"numpy>=2"}


def test_requirements_are_replaced_by_name_alone() -> None:
    wanted = ["onnxruntime>=1.31,<1.32", "onnxruntime-extensions", "numpy>=2.2"]
    assert accelerating.requirements(wanted, GPU) == {
        "onnxruntime-gpu>=1.31,<1.32",
        "onnxruntime-extensions",
        "numpy>=2.2",
    }
    shipped = Accelerator(("cuda",), {}, {"onnxruntime": ()})
    assert accelerating.requirements(wanted, shipped) == {"onnxruntime-extensions", "numpy>=2.2"}


def test_services_that_need_what_is_replaced_are_told_where_to_run() -> None:
    items = {
        ("models", "m"): Compiled(services=(service("m", threads=2),), wheels=("onnxruntime>=1",)),
        ("models", "r"): Compiled(services=(service("r"),), wheels=("urllib3",)),
    }
    told = accelerating.told(items, GPU)
    (model,), (remote,) = told["models", "m"].services, told["models", "r"].services
    assert model.config == {"threads": 2, "execution": {"strict": True, "providers": ["cuda", "cpu"]}}
    assert remote.config == {}
    assert accelerating.opened_at_start([model, remote]) == ("embeddings/m",)


def test_what_a_service_says_itself_wins() -> None:
    own = service("m", execution={"providers": ["cpu"]})
    told = accelerating.told({("models", "m"): Compiled(services=(own,), wheels=("onnxruntime",))}, GPU)
    assert told["models", "m"].services[0].config["execution"] == {"strict": True, "providers": ["cpu"]}
