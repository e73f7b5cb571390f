"""``knative.yaml`` and ``kserve.yaml``: the same container where a platform starts and stops it by demand; pure.

What is kept in a folder needs one server at a time, so such an image is never scaled to zero or beyond one.
"""

from __future__ import annotations

from typing import Any

from lsbuild.packing.yaml_write import documents
from lsbuild_targets.container.pods import claim, container, metadata, probes, volumes
from lsbuild_targets.container.workload import GRACE_S, Workload

KNATIVE, KSERVE = "knative.yaml", "kserve.yaml"
_AT_ONCE = 8
"""Requests for one server before another is started."""


def knative(work: Workload) -> bytes:
    """A Service of Knative Serving (serving.knative.dev/v1)."""
    scale = {
        "autoscaling.knative.dev/min-scale": "1" if work.state else "0",
        "autoscaling.knative.dev/max-scale": str(work.most),
        "autoscaling.knative.dev/target": str(_AT_ONCE),
    }
    found = probes(work)
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": metadata(work),
        "spec": {
            "template": {
                "metadata": {"annotations": scale},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "timeoutSeconds": 300,
                    # Knative's own proxy drains; it looks at readiness much more often than a kubelet does.
                    "containers": [
                        {
                            **{name: value for name, value in container(work).items() if name != "args"},
                            "readinessProbe": found["readinessProbe"],
                            "livenessProbe": found["livenessProbe"],
                        }
                    ],
                    "volumes": volumes(work),
                },
            }
        },
    }
    claims = [claim(work)] if work.state else []
    return documents(*claims, service, comment=f"Written by lsbuild; kubectl apply -f {KNATIVE}{_note(work)}")


def kserve(work: Workload) -> bytes:
    """An InferenceService of KServe (serving.kserve.io/v1beta1) with a predictor of our own."""
    least = 1 if work.state else work.replicas
    predictor: dict[str, Any] = {
        "minReplicas": least,
        "maxReplicas": work.most,
        "scaleMetric": "concurrency",
        "scaleTarget": _AT_ONCE,
        "timeout": 300,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S + 10,
        # KServe knows the container that serves by this name.
        "containers": [{**container(work), "name": "kserve-container", **probes(work)}],
        "volumes": volumes(work),
    }
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(work),
        "spec": {"predictor": predictor},
    }
    claims = [claim(work)] if work.state else []
    return documents(*claims, service, comment=f"Written by lsbuild; kubectl apply -f {KSERVE}{_note(work)}")


def _note(work: Workload) -> str:
    if not work.state:
        return ""
    return "\nIt keeps state in a volume, so there is one server; Knative has to allow volume claims (config-features)."
