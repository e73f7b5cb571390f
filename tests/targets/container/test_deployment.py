"""The files that deploy an image: what they say, and that the schemas of those who read them find no fault."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from lsbuild.api import Bundle, Service, TargetError
from lsbuild_targets.container import compose, kubernetes, serverless
from lsbuild_targets.container.options import Options
from lsbuild_targets.container.workload import Workload, image_name, label, workload

MakeBundle = Callable[..., Bundle]
CHECK = Path(__file__).parents[2] / "kube_check.py"
DIGEST = "sha256:" + "a" * 64
PLAIN = Workload(
    app="field-assistant", image=f"registry.example/team/assistant@{DIGEST}", version="1.0", namespace="", user=65532,
    port=8321, replicas=2, most=4, memory=256 << 20, limit=512 << 20, cpu=500, secrets=(), state=False,
)  # fmt: skip
FORMS = {
    "plain": PLAIN,
    "fixed": replace(PLAIN, most=2, namespace="team"),
    "secrets": replace(PLAIN, secrets=("CLOUD_KEY", "OTHER_KEY")),
    "state": replace(PLAIN, replicas=1, most=1, state=True, secrets=("CLOUD_KEY",)),
}
STATE = Service(api="state", name="responses", provider="inline::sqlite", entry="a:b")
REMOTE = Service(
    api="inference", name="cloud", provider="remote::openai", entry="a:b", config={"key": {"secret": "KEY"}}
)


def files(work: Workload) -> dict[str, bytes]:
    return {
        kubernetes.FILE: kubernetes.kubernetes(work),
        serverless.KNATIVE: serverless.knative(work),
        serverless.KSERVE: serverless.kserve(work),
        compose.FILE: compose.compose(work),
    }


def by_kind(data: bytes) -> dict[str, Any]:
    return {each["kind"]: each for each in YAML(typ="safe", pure=True).load_all(data)}


def checked(*paths: Path) -> subprocess.CompletedProcess[str]:
    folder = os.environ.get("LSBUILD_KUBE")
    if not folder:
        pytest.skip("no schemas of Kubernetes: `make kube` gets them; set LSBUILD_KUBE to .venv-kube")
    return subprocess.run([f"{folder}/bin/python", CHECK, *paths], capture_output=True, text=True, check=False)


def test_the_schemas_find_no_fault_in_any_form(tmp_path: Path) -> None:
    paths = []
    for form, work in FORMS.items():
        for name, data in files(work).items():
            paths.append(tmp_path / f"{form}-{name}")
            paths[-1].write_bytes(data)
    done = checked(*paths)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        (kubernetes.FILE, b"readOnlyRootFilesystem", b"readonlyRootFilesystem", "Kubernetes 1.29"),
        (serverless.KNATIVE, b"timeoutSeconds: 300", b"timeoutSeconds: long", "Knative"),
        (serverless.KSERVE, b"minReplicas", b"minimumReplicas", "KServe"),
        (compose.FILE, b"read_only", b"readonly", "Compose"),
    ],
)
def test_the_schemas_would_find_one(tmp_path: Path, name: str, good: bytes, bad: bytes, said: str) -> None:
    data = files(PLAIN)[name]
    assert good in data
    (tmp_path / name).write_bytes(data.replace(good, bad))
    done = checked(tmp_path / name)
    assert done.returncode == 1, done.stderr
    assert said in done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_the_container_is_confined_everywhere(form: str) -> None:
    found = files(FORMS[form])
    pods = [
        by_kind(found[kubernetes.FILE])["Deployment"]["spec"]["template"]["spec"],
        by_kind(found[serverless.KNATIVE])["Service"]["spec"]["template"]["spec"],
        by_kind(found[serverless.KSERVE])["InferenceService"]["spec"]["predictor"],
    ]
    for pod in pods:
        (container,) = pod["containers"]
        assert container["image"].endswith(DIGEST)
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert (security["runAsNonRoot"], security["readOnlyRootFilesystem"]) == (True, True)
        assert (security["allowPrivilegeEscalation"], security["seccompProfile"]) == (False, {"type": "RuntimeDefault"})
        assert pod["automountServiceAccountToken"] is False
        assert container["readinessProbe"]["httpGet"]["path"] == "/v1/ready"
    (service,) = YAML(typ="safe", pure=True).load(found[compose.FILE])["services"].values()
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_a_pod_is_given_the_time_that_draining_takes() -> None:
    pod = by_kind(kubernetes.kubernetes(PLAIN))["Deployment"]["spec"]["template"]["spec"]
    drain = int(pod["containers"][0]["args"][1])
    assert pod["terminationGracePeriodSeconds"] > drain + 30


def test_an_autoscaler_decides_alone_and_state_has_none() -> None:
    plain, state = by_kind(kubernetes.kubernetes(PLAIN)), by_kind(kubernetes.kubernetes(FORMS["state"]))
    assert "replicas" not in plain["Deployment"]["spec"]
    scaler = plain["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)
    assert "HorizontalPodAutoscaler" not in state
    assert state["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert state["PersistentVolumeClaim"]["metadata"]["name"] == "field-assistant"
    scale = by_kind(serverless.knative(FORMS["state"]))["Service"]["spec"]["template"]["metadata"]["annotations"]
    assert (scale["autoscaling.knative.dev/min-scale"], scale["autoscaling.knative.dev/max-scale"]) == ("1", "1")


def test_secrets_come_from_a_secret_by_the_names_of_the_spec() -> None:
    data = kubernetes.kubernetes(FORMS["secrets"])
    (container,) = by_kind(data)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["env"][0] == {
        "name": "CLOUD_KEY",
        "valueFrom": {"secretKeyRef": {"name": "field-assistant", "key": "CLOUD_KEY"}},
    }
    assert b"kubectl create secret generic field-assistant --from-literal=CLOUD_KEY=..." in data
    assert b"CLOUD_KEY: ${CLOUD_KEY:?" in compose.compose(FORMS["secrets"])


def with_services(bundle: Bundle, *services: Service, name: str = "field_assistant") -> Bundle:
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, services=services, name=name))


def test_the_facts_come_from_the_bundle(make_bundle: MakeBundle) -> None:
    bundle = with_services(make_bundle(), REMOTE)
    found = workload((bundle,), Options(), "field_assistant:1.2", DIGEST)
    assert (found.app, found.version, found.secrets) == ("field-assistant", "1.2", ("KEY",))
    assert (found.replicas, found.most, found.state) == (1, 4, False)
    assert found.memory % (64 << 20) == 0
    assert found.limit == 2 * found.memory
    assert workload((bundle,), Options(memory="1GiB"), "a:1", DIGEST).limit == 1 << 30  # type: ignore[arg-type]


def test_what_keeps_state_has_one_server(make_bundle: MakeBundle) -> None:
    mutable = Service(
        api="vector_io", name="docs", provider="inline::sqlite-vec", entry="a:b", metadata={"mutable": True}
    )
    for service in (STATE, mutable):
        bundle = with_services(make_bundle(), service)
        assert workload((bundle,), Options(), "a:1", DIGEST).most == 1
        with pytest.raises(TargetError, match="3 replicas cannot share") as caught:
            workload((bundle,), Options(replicas=3), "a:1", DIGEST)
        assert "remote::postgres" in caught.value.hint
    elsewhere = msgspec.structs.replace(STATE, provider="remote::postgres")
    assert workload((with_services(make_bundle(), elsewhere),), Options(replicas=3), "a:1", DIGEST).replicas == 3


def test_a_digest_needs_a_registry_that_has_it() -> None:
    assert image_name("registry.example:5000/team/a:1", DIGEST) == f"registry.example:5000/team/a@{DIGEST}"
    assert image_name("team/a:1", DIGEST) == "team/a:1"
    assert image_name("a:1", DIGEST) == "a:1"


def test_names_become_dns_labels() -> None:
    assert label("field_assistant.v2-") == "field-assistant-v2"


@pytest.mark.parametrize("options", [{"replicas": 0}, {"namespace": "No_Way"}, {"memory": "1MB"}, {"cpu": 1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)
