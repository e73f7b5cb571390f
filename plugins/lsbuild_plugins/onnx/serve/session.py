"""Opens onnxruntime sessions the way an artifact wants them: threads it really has, no spinning, no telemetry; and on
the provider that its service asks for.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from lsbuild_plugins.onnx.serve.batches import BATCH_TOKENS
from lsbuild_plugins.onnx.serve.unavailable import unavailable
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host, Placement

if TYPE_CHECKING:
    from lsbuild_plugins.onnx.serve.ort import ort
    from lsbuild_plugins.onnx.serve.provider_settings import Texts


class Opened(Struct, frozen=True):
    """A session, and where it runs; ``placement`` is None where nothing but the CPU was asked for."""

    session: ort.InferenceSession
    placement: Placement | None = None

    @property
    def rows(self) -> int:
        """The most inputs of one run: TensorRT's engines were built for so many."""
        if self.placement is None or self.placement.wanted != "tensorrt":
            return BATCH_TOKENS
        from lsbuild_plugins.onnx.serve.provider_settings import ROWS

        return ROWS


def available_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: its affinity mask, cut by a cgroup quota (v2 ``cpu.max`` or v1), at least 1."""
    count = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, min(count, math.ceil(quota))) if quota else count


def _quota(cgroup: Path) -> float:
    """CPUs granted by the quota, 0 when there is none. Inside a container its own group is mounted at ``cgroup``."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 0.0
    return int(limit) / int(period) if limit.isdigit() and int(limit) > 0 and int(period) > 0 else 0.0


def number(service: Service, key: str, default: int) -> int:
    """A positive whole number of the service's config, written as a number or as digits (``${env.X}`` gives text)."""
    value = service.config.get(key, default)
    try:
        found = int(value)
    except (TypeError, ValueError):
        found = 0
    if isinstance(value, bool) or found < 1:
        raise unavailable(service.name, f"config.{key} is {value!r}; give a whole number of at least 1")
    return found


def open_for(service: Service, graph: Path, host: Host, texts: Texts | None = None) -> Opened:
    """Load ``graph`` where ``config.execution`` of the service says, or on the CPU. Raises ApiError 503 with the reason.

    Args:
        texts: the shapes of a graph that reads texts.
    """
    if "execution" not in service.config:
        return Opened(open_session(service, graph))
    from lsbuild_plugins.onnx.serve.device_session import open_on_device  # most artifacts have nothing but a CPU

    return Opened(*open_on_device(service, graph, host, session_options(service), texts))


def open_session(service: Service, graph: Path) -> ort.InferenceSession:
    """Load ``graph`` (and the external weights beside it) on the CPU. Raises ApiError 503 with onnxruntime's own reason."""
    from lsbuild_plugins.onnx.serve.ort import ort  # with numpy; what reads texts has `capi` where it can

    try:
        return ort.InferenceSession(str(graph), session_options(service), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise unavailable(service.name, f"onnxruntime could not load {graph.name}: {reason(error)}") from error


def session_options(service: Service) -> ort.SessionOptions:
    """Options of every session.

    Threads: ``config.threads``, else ``available_cpus()``. Prepacking stays on: without it the first 32 tokens cost
    eight times as much.
    """
    from lsbuild_plugins.onnx.serve.ort import ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = number(service, "threads", available_cpus())
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Spinning workers would burn a core between two tokens and between two requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def reason(error: Exception) -> str:
    """onnxruntime's message without its status prefix, on one line."""
    text: Any = str(error).replace("\n", " ")
    return str(text.split(" : ", 3)[-1])[:500]
