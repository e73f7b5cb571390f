"""Workflows and their runs."""

from __future__ import annotations

from lsbuild_runtime.routes.tables.rare import DELETE, GET, POST, routes_of

_flow = routes_of("workflows", "workflows")
_ALL, _ONE = "/v1/workflows", "/v1/workflows/{name}"
_RUNS, _RUN = "/v1/workflows/{name}/runs", "/v1/workflows/{name}/runs/{run_id}"

WORKFLOWS = (
    _flow(GET, _ALL, "List workflows", "listing", "", "WorkflowList"),
    _flow(GET, _ONE, "Get a workflow", "retrieve", "", "WorkflowObject"),
    _flow(POST, _RUNS, "Run a workflow", "start", "RunRequest", "RunObject", streams=True),
    _flow(GET, _RUNS, "List runs", "runs", "", "RunPage", ("limit", "order", "after", "status")),
    _flow(GET, _RUN, "Get a run", "run", "", "RunObject"),
    _flow(POST, f"{_RUN}/approve", "Answer a run that asks", "approve", "ApproveRequest", "RunObject"),
    _flow(POST, f"{_RUN}/cancel", "Cancel a run", "cancel", "", "RunObject"),
    _flow(DELETE, _RUN, "Forget a run", "delete", "", "RunDeleted"),
)
