"""``kubernetes.yaml``: a Deployment with what it needs around it, for ``kubectl apply -f``; pure."""

from __future__ import annotations

from typing import Any

from lsbuild.packing.yaml_write import documents
from lsbuild_targets.container.pods import claim, container, metadata, probes, selector, volumes
from lsbuild_targets.container.workload import STOP_S, Workload

FILE = "kubernetes.yaml"
_BUSY_PERCENT = 70


def kubernetes(work: Workload) -> bytes:
    """Deployment, Service, ServiceAccount, PodDisruptionBudget, NetworkPolicy; a claim for state, else an autoscaler."""
    return documents(
        _account(work),
        *([claim(work)] if work.state else []),
        _deployment(work),
        _service(work),
        *([_autoscaler(work)] if work.most > work.replicas else []),
        _budget(work),
        _network(work),
        comment=_comment(work),
    )


def _comment(work: Workload) -> str:
    secret = ""
    if work.secrets:
        literals = " ".join(f"--from-literal={name}=..." for name in work.secrets)
        secret = f"\nSecrets first: kubectl create secret generic {work.app} {literals}"
    return f"Written by lsbuild; kubectl apply -f {FILE}{secret}"


def _account(work: Workload) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(work),
        "automountServiceAccountToken": False,
    }


def _deployment(work: Workload) -> dict[str, Any]:
    # A volume of one writer: the old pod goes before the new one comes.
    strategy = {"type": "Recreate"} if work.state else {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}
    scaled = work.most > work.replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(work),
        "spec": {
            # Where an autoscaler decides, a number here would undo its decision at every apply.
            **({} if scaled else {"replicas": work.replicas}),
            "selector": {"matchLabels": selector(work)},
            "strategy": strategy,
            "template": {"metadata": {"labels": metadata(work)["labels"]}, "spec": _pod(work)},
        },
    }


def _pod(work: Workload) -> dict[str, Any]:
    return {
        "serviceAccountName": work.app,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": work.user,
            "runAsGroup": work.user,
            "fsGroup": work.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": STOP_S,
        "containers": [{**container(work), **probes(work)}],
        "volumes": volumes(work),
    }


def _service(work: Workload) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(work),
        "spec": {
            "selector": selector(work),
            "ports": [{"name": "http", "port": 80, "targetPort": "http1", "protocol": "TCP"}],
        },
    }


def _autoscaler(work: Workload) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": _BUSY_PERCENT}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(work),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": work.app},
            "minReplicas": work.replicas,
            "maxReplicas": work.most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def _budget(work: Workload) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(work),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(work)}},
    }


def _network(work: Workload) -> dict[str, Any]:
    """Nothing but its port is reached from outside; what it may reach itself is the cluster's affair."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(work),
        "spec": {
            "podSelector": {"matchLabels": selector(work)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": "http1", "protocol": "TCP"}]}],
        },
    }
