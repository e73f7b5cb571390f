"""Opens onnxruntime sessions the way an artifact wants them: threads it really has, no spinning, no telemetry."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service

if TYPE_CHECKING:
    from lsbuild_plugins.onnx.serve.ort import ort


def unavailable(name: str, what: str) -> ApiError:
    """The 503 for a model that cannot be opened or failed; ``what`` says why and what to do."""
    return ApiError(503, f"model {name!r}: {what}", type="server_error", code="model_unavailable")


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


def open_session(service: Service, graph: Path) -> ort.InferenceSession:
    """Load ``graph`` (and the external weights beside it) on the CPU.

    Threads: ``config.threads``, else ``available_cpus()``. Prepacking stays on: without it the first 32 tokens cost
    eight times as much. Raises ApiError 503 with onnxruntime's own reason.
    """
    from lsbuild_plugins.onnx.serve.ort import ort  # with numpy; encoders have `capi` instead

    options = ort.SessionOptions()
    options.intra_op_num_threads = number(service, "threads", available_cpus())
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Spinning workers would burn a core between two tokens and between two requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise unavailable(service.name, f"onnxruntime could not load {graph.name}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """onnxruntime's message without its status prefix, on one line."""
    text: Any = str(error).replace("\n", " ")
    return str(text.split(" : ", 3)[-1])[:500]
