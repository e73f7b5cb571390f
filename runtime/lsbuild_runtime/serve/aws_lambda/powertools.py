"""What requests did, through Powertools for AWS Lambda: its Logger, and its Metrics in CloudWatch's embedded format.

Powertools is imported here and nowhere else, and only when the first answer is out: it costs a quarter of a cold start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from lsbuild_runtime.watch import JsonWatch

_SERVER_ERROR = 500
_TOKENS = (("gen_ai.usage.input_tokens", "InputTokens"), ("gen_ai.usage.output_tokens", "OutputTokens"))


class Function(Struct, frozen=True):
    """Which function this is; the names are those of Lambda's environment."""

    name: str
    version: str
    memory: str
    service: str
    """Name of the distribution: Powertools' ``service``, also a dimension of every metric."""
    namespace: str
    """Namespace of the metrics."""
    arn: str = ""


class Telemetry:
    """Keeps the lines of requests until ``flush``, so that no client waits for them."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._lines: list[dict[str, Any]] = []
        self._cold = True
        self._tools: tuple[Any, Any] | None = None

    def observe(self, request_id: str) -> JsonWatch:
        """An ``app.Observe``."""
        return _KeptLine(request_id, self._lines.append)

    def flush(self, invocation: str, arn: str) -> None:
        """Write what was kept: a line of the Logger and a set of metrics for each request."""
        lines, self._lines[:] = list(self._lines), []
        if not lines:
            return
        logger, metrics = self._tools = self._tools or _tools(self._function)
        function = self._function
        logger.append_keys(
            cold_start=self._cold,
            function_request_id=invocation,
            function_arn=arn or function.arn,
            function_name=function.name,
            function_memory_size=function.memory,
            function_version=function.version,
        )
        for line in lines:
            level = logger.error if line.pop("level", "info") == "error" else logger.info
            level("request", extra={name: value for name, value in line.items() if name != "time"})
            _measure(metrics, line, cold=self._cold)
            self._cold = False
        metrics.flush_metrics()
        sys.stdout.flush()


class _KeptLine(JsonWatch):
    """A JsonWatch that gives its line away whole."""

    def __init__(self, request_id: str, keep: Callable[[dict[str, Any]], object]) -> None:
        super().__init__(request_id, _nowhere)
        self._keep = keep

    def emit(self, line: dict[str, Any]) -> None:
        """Keep the finished line."""
        self._keep(line)


def _nowhere(_line: str) -> None:
    """Where no text goes."""


def _tools(function: Function) -> tuple[Any, Any]:
    if sys.modules.get("typing_extensions", True) is None:
        del sys.modules["typing_extensions"]
    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.metrics import Metrics

    return Logger(service=function.service), Metrics(namespace=function.namespace, service=function.service)


def _measure(metrics: Any, line: Mapping[str, Any], *, cold: bool) -> None:
    failed = int(line.get("http.response.status_code", 0)) >= _SERVER_ERROR
    metrics.add_metric(name="Requests", unit="Count", value=1)
    metrics.add_metric(name="Errors", unit="Count", value=int(failed))
    metrics.add_metric(name="Duration", unit="Milliseconds", value=line.get("ms", 0))
    for attribute, name in _TOKENS:
        if attribute in line:
            metrics.add_metric(name=name, unit="Count", value=line[attribute])
    if cold:
        metrics.add_metric(name="ColdStart", unit="Count", value=1)
