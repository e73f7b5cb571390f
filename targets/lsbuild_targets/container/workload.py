"""What every file that deploys an image says of its container: name, image, port, memory, secrets, state; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lsbuild.api import Bundle, Manifest, TargetError
from lsbuild.secret_names import secrets_of
from lsbuild_targets.container.options import Options

STATE = "/var/lib/lsbuild"
"""Where what is stored lies, when a volume is mounted there."""
HEALTH, READY = "/v1/health", "/v1/ready"
DRAIN_S = 5
"""How long a server that was told to stop says so before it closes its port: balancers need to hear of it."""
GRACE_S = 30
"""How long the runtime lets answers go on that have begun."""
STOP_S = DRAIN_S + GRACE_S + 5
_MIB = 1 << 20
_OWN = 160 * _MIB
"""Memory of a server without models: interpreter, libraries and answers."""


@dataclass(frozen=True, slots=True)
class Workload:
    """``app`` is a DNS label; ``image`` names it by digest where the registry is known; memory in bytes, cores in thousandths."""

    app: str
    image: str
    version: str
    namespace: str
    user: int
    port: int
    replicas: int
    most: int
    memory: int
    limit: int
    cpu: int
    secrets: tuple[str, ...]
    state: bool


def workload(bundles: tuple[Bundle, ...], options: Options, reference: str, digest: str) -> Workload:
    """The facts for an image. Raises TargetError for more replicas than its state allows."""
    manifest = bundles[0].manifest
    state = keeps_state(manifest)
    if state and options.replicas > 1:
        raise TargetError(
            f"{options.replicas} replicas cannot share what {manifest.name} keeps in its own folder",
            where="targets.container.replicas",
            hint="keep it in a database (server.state.provider: remote::postgres, stores: remote::pgvector), or replicas: 1",
        )
    needed = max(_needed(bundle) for bundle in bundles)
    return Workload(
        app=label(manifest.name),
        image=image_name(reference, digest),
        version=reference.rpartition(":")[2],
        namespace=options.namespace or "",
        user=options.user,
        port=options.port(manifest.server.port),
        replicas=options.replicas,
        most=options.replicas if state else max(options.max_replicas, options.replicas),
        memory=options.memory or needed,
        limit=options.memory or 2 * needed,
        cpu=options.cpu,
        secrets=secrets_of(manifest),
        state=state,
    )


def keeps_state(manifest: Manifest) -> bool:
    """Whether a server of it writes something that has to outlive it."""
    return any(
        service.provider.startswith("inline::") and (service.api == "state" or service.metadata.get("mutable") is True)
        for service in manifest.services
    )


def label(name: str) -> str:
    """A name of a spec as a DNS label: ``field_assistant`` -> ``field-assistant``."""
    return name.replace("_", "-").replace(".", "-").strip("-")


def image_name(reference: str, digest: str) -> str:
    """By digest where ``reference`` has a registry; else by tag, since nobody could look a digest up."""
    host, slash, _ = reference.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return f"{reference.rpartition(':')[0]}@{digest}"
    return reference


def _needed(bundle: Bundle) -> int:
    """An estimate from sizes: models and indexes lie in memory once, and the server is added; whole 64 MiB."""
    data = sum(_sizes(bundle.manifest, ("model", "index")))
    return -(-(_OWN + data) // (64 * _MIB)) * 64 * _MIB


def _sizes(manifest: Manifest, parts: tuple[str, ...]) -> Iterable[int]:
    return (file.size for file in manifest.files if file.part in parts)
