"""``compose.yaml``: the image on one machine, for ``docker compose up`` and ``podman compose up``; pure."""

from __future__ import annotations

from typing import Any

from lsbuild.packing.yaml_write import documents
from lsbuild_targets.container.workload import DRAIN_S, STATE, STOP_S, Workload

FILE = "compose.yaml"


def compose(work: Workload) -> bytes:
    """One service, confined as in Kubernetes, that is reached from this machine."""
    environment = {"LSBUILD_STATE": STATE} if work.state else {}
    # Without a value `up` ends with these words, before anything is started.
    environment |= {name: f"${{{name}:?set it in the environment or in .env}}" for name in work.secrets}
    service: dict[str, Any] = {
        "image": work.image,
        "command": ["--drain", str(DRAIN_S)],
        "ports": [f"127.0.0.1:{work.port}:{work.port}"],
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp:size=256m,mode=1777"],  # noqa: S108 - a folder of the container
        **({"environment": environment} if environment else {}),
        **({"volumes": [f"state:{STATE}"]} if work.state else {}),
        "mem_limit": work.limit,
        "stop_grace_period": f"{STOP_S}s",
        "restart": "unless-stopped",
    }
    value = {
        "name": work.app,
        "services": {work.app: service},
        **({"volumes": {"state": {}}} if work.state else {}),
    }
    return documents(value, comment=f"Written by lsbuild; docker compose -f {FILE} up")
