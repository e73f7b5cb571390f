"""One artifact, looked at once: its target boots it, the shared questions are asked at each boot, and the answers are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from platform import machine

from lsbuild import gates, inspection
from lsbuild.api import Check, Manifest, Service
from lsbuild.proving import cold_start
from lsbuild.proving.answers import Answer
from lsbuild.proving.client import Client
from lsbuild.proving.questions import first_request, questions

COLD = "cold start"
"""Name of the check that measures it."""


@dataclass(slots=True)
class Boot:
    """One time that an artifact ran: what it called itself, and what each service said, by (api, name)."""

    place: str
    manifest: Manifest
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    cold_ms: float | None = None
    memory: int | None = None

    @property
    def arch(self) -> str:
        """The processor that its code is for."""
        return self.manifest.platform.split("-")[1]

    @property
    def emulated(self) -> bool:
        """Whether that is another processor than this machine's."""
        return self.arch != machine()


class Examination:
    """Looks at the artifact at ``path``. Raises VerifyError when it is none of ours."""

    def __init__(self, path: Path) -> None:
        self.found = inspection.inspect(path)
        self.checks: list[Check] = []
        self.boots: list[Boot] = []
        self._since = 0
        """When it was begun to look: what was started before is none of its servers."""

    def run(self) -> Iterator[Check]:
        """The checks, as they are made."""
        self._since = cold_start.now()
        for check in self.found.target.verify(self.found.path, self._ask):
            self.checks.append(check)
            yield check

    def _ask(self, base_url: str) -> Iterator[Check]:
        boot = Boot("", self._manifest(base_url))
        same = [each for each in self.boots if each.manifest.platform == boot.manifest.platform]
        boot.place = f"{self.found.target.name} {boot.arch}{f' ({len(same) + 1})' if same else ''}"
        self.boots.append(boot)
        yield self._cold(boot, base_url)

        def keep(service: Service, answer: Answer) -> None:
            boot.answers[service.api, service.name] = answer

        yield from questions(boot.manifest, keep)(base_url)

    def _manifest(self, base_url: str) -> Manifest:
        """Which of the artifact's manifests the booted server has; the first where it does not say."""
        manifests = self.found.manifests
        try:
            platform = Client(base_url).get("/v1/version")["platform"]
        except Exception:  # the questions tell what is wrong with it
            return manifests[0]
        return next((each for each in manifests if each.platform == platform), manifests[0])

    def _cold(self, boot: Boot, base_url: str) -> Check:
        """What it used until its first embedding and search were answered, against the spec's budget."""
        if boot.emulated:
            return Check.skipped(COLD, f"not measured: {boot.arch} is emulated here, that would be QEMU's time")
        healthy, used, first = cold_start.used(base_url, self._since), None, first_request(boot.manifest)
        if healthy is not None:
            with suppress(Exception):  # what is wrong with it the questions tell
                if first is not None:
                    Client(base_url).post(first.path, first.body)
                used = cold_start.used(base_url, self._since)
        if used is None or healthy is None:
            return Check.skipped(COLD, "not measured: the server's process cannot be seen from here")
        boot.cold_ms, boot.memory = used.cpu_ms, used.memory
        said = f"{used.cpu_ms:.0f} CPU-ms, {healthy.cpu_ms:.0f} of them to health"
        said += f", {used.cpu_ms - healthy.cpu_ms:.0f} for the first {first.words}" if first else ""
        limit = boot.manifest.build.get(gates.RUNNING, {}).get(gates.COLD_START)
        said += f"; {used.memory / 1e6:.0f} MB"
        if limit is None:
            return Check(COLD, True, said)
        if used.cpu_ms <= limit:
            return Check(COLD, True, f"{said}; the budget is {limit:.0f}")
        return Check(COLD, False, f"{said}; the budget is {limit:.0f}; {_largest(boot.manifest)}")


def _largest(manifest: Manifest) -> str:
    """What is largest of what a start reads."""
    sizes = list(inspection.components(manifest).items())[:3]
    return "largest are " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes)
