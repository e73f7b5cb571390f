"""Opens a session on the best provider that takes the graph: TensorRT, CUDA, the CPU; and says which one did.

onnxruntime falls back without an error, twice: a provider whose libraries are missing is left out, and an operator that a
provider does not have runs on the next. Both are looked for here. With ``strict`` either is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from lsbuild_plugins.onnx.serve.execution import CPU, NAMES, Execution, course
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Placement

HEAVY = frozenset(
    {
        *("MatMul", "Gemm", "FusedMatMul", "MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul"),
        *("Attention", "MultiHeadAttention", "GroupQueryAttention", "Conv", "QLinearConv"),
    }
)
"""Operators that a model spends its time in. Others (shapes, indexes) a provider leaves to the CPU on purpose."""
_OURS = {theirs: name for name, theirs in NAMES.items()}

OpenWith = Callable[[tuple[str, ...]], Any]
"""A session with providers (our names) in this order; raises whatever onnxruntime does, and never falls back by itself."""


def open_placed(
    service: Service,
    execution: Execution,
    available: Sequence[str],
    open_with: OpenWith,
    diagnose: Callable[[str], str] = lambda _wanted: "",
) -> tuple[Any, Placement]:
    """The session and where it runs. ApiError 503 where nothing can run it, and where strictness forbids what could.

    Args:
        available: onnxruntime's names of the providers that it was built with.
        diagnose: says what of the machine keeps a provider (our name) from starting, where that is known.
    """
    plan = course(execution, service.metadata.get("runs_on"), available)
    why = plan.why
    if why and execution.strict:
        raise refused(service, plan.wanted, why)
    for place, name in enumerate(plan.order):
        try:
            session = open_with(plan.order[place:])
        except Exception as error:
            why = why or f"{NAMES[name]} failed: {one_line(error)}"
            if execution.strict:
                raise refused(service, plan.wanted, why) from error
            continue
        found = placement(session, plan.wanted, why)
        if found.why and not why and plan.wanted not in found.operators and (reason := diagnose(plan.wanted)):
            found = structs.replace(found, why=f"{found.why} ({reason})")
        if execution.strict and found.why:
            raise refused(service, plan.wanted, found.why)
        return session, found
    raise unavailable(service.name, f"no provider can run it: {why}")


def placement(session: Any, wanted: str, why: str = "") -> Placement:
    """Where the operators of a session are. A provider that has not got the most of the heavy ones has not taken it."""
    operators = assigned(session)
    counts = {name: sum(kinds.values()) for name, kinds in sorted(operators.items())}
    heavy = {
        name: Counter({kind: n for kind, n in kinds.items() if kind in HEAVY}) for name, kinds in operators.items()
    }
    first = next((_OURS[name] for name in session.get_providers() if name in _OURS), CPU)
    took = max(heavy, key=lambda name: (sum(heavy[name].values()), counts[name])) if heavy else first
    return Placement(took, wanted, counts, why or _left(wanted, first, took, heavy))


def assigned(session: Any) -> dict[str, Counter[str]]:
    """Operators by provider and kind; empty where this onnxruntime does not record it (before 1.24)."""
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    found: dict[str, Counter[str]] = {}
    for part in ask() if ask is not None else ():
        name = _OURS.get(part.ep_name, part.ep_name)
        found.setdefault(name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def refused(service: Service, wanted: str, why: str) -> ApiError:
    """The ApiError of a model that is not opened; it says how to allow another provider."""
    return unavailable(
        service.name,
        f"{wanted} was asked for and does not run it: {why}. `run doctor` says what is missing here; with strict: false "
        "another provider would run it",
    )


def one_line(error: Exception) -> str:
    """An error of onnxruntime or of the system, on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def _left(wanted: str, first: str, took: str, heavy: Mapping[str, Counter[str]]) -> str:
    """What the wanted provider did not take, in words; "" when it took all that counts."""
    if first != wanted:
        return f"{NAMES[wanted]} could not be started: its libraries do not load, or it finds no GPU"
    elsewhere = Counter[str]()
    for name, kinds in heavy.items():
        elsewhere += kinds if name != wanted else Counter()
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(elsewhere.items()))
    return f"{NAMES[wanted]} left to {took if took != wanted else 'others'}: {told}" if told else ""
