"""The parts of a pod that Kubernetes, Knative and KServe share: one confined container; pure."""

from __future__ import annotations

from typing import Any

from lsbuild_targets.container.workload import DRAIN_S, HEALTH, READY, STATE, Workload

Object = dict[str, Any]
_MIB = 1 << 20


def container(work: Workload) -> Object:
    """The container without probes: no capabilities, no writing but to its volumes, secrets from the Secret ``APP``."""
    secrets = [{"name": name, "valueFrom": {"secretKeyRef": {"name": work.app, "key": name}}} for name in work.secrets]
    state = [{"name": "LSBUILD_STATE", "value": STATE}] if work.state else []
    return {
        "name": work.app,
        "image": work.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--drain", str(DRAIN_S)],
        **({"env": state + secrets} if state + secrets else {}),
        "ports": [{"name": "http1", "containerPort": work.port, "protocol": "TCP"}],
        "resources": resources(work),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": work.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a folder of the container
            *([{"name": "state", "mountPath": STATE}] if work.state else []),
        ],
    }


def volumes(work: Workload) -> list[Object]:
    """A small /tmp for uploads on their way, and the claim ``APP`` for what is kept."""
    state = {"name": "state", "persistentVolumeClaim": {"claimName": work.app}}
    return [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}, *([state] if work.state else [])]


def resources(work: Workload) -> Object:
    """What is reserved, and the memory that may be used at most; the processor is not throttled."""
    return {
        "requests": {"cpu": f"{work.cpu}m", "memory": f"{work.memory // _MIB}Mi"},
        "limits": {"memory": f"{work.limit // _MIB}Mi"},
    }


def probes(work: Workload) -> Object:
    """Startup, liveness and readiness on the server's own routes. The port is a number: Knative takes no name."""
    health, ready = ({"httpGet": {"path": path, "port": work.port}} for path in (HEALTH, READY))
    return {
        "startupProbe": {**health, "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 5},
    }


def metadata(work: Workload) -> Object:
    """Name, namespace and the labels that Kubernetes recommends."""
    return {
        "name": work.app,
        **({"namespace": work.namespace} if work.namespace else {}),
        "labels": {
            **selector(work),
            "app.kubernetes.io/version": work.version,
            "app.kubernetes.io/managed-by": "lsbuild",
        },
    }


def selector(work: Workload) -> dict[str, str]:
    """The label that finds the pods."""
    return {"app.kubernetes.io/name": work.app}


def claim(work: Workload) -> Object:
    """The volume for what is kept."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(work),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}},
    }
