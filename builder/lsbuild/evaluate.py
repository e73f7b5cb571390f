"""`lsbuild eval` from top to bottom: measure at build, or ask a server or a booted artifact; it prints nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsbuild import build, disk, inspection, lock, sources
from lsbuild.api import Check
from lsbuild.errors import Problem, SpecError, VerifyError
from lsbuild.evals import measure
from lsbuild.evals.questions import Question, load
from lsbuild.evals.remote import Server
from lsbuild.evals.result import Place, Result
from lsbuild.running.monitor import Monitor
from lsbuild.spec.model import Eval
from lsbuild.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Measured:
    """Results and gates by the names of the spec's ``evals``; ``unasked`` says why some have no result."""

    results: Mapping[str, Result]
    gates: Mapping[str, Mapping[str, float]]
    unasked: Mapping[str, str]


def evaluate(order: build.Order, against: str | None, only: Sequence[str], monitor: Monitor) -> Measured:
    """Measure what the spec's ``evals`` name, or those of the names in ``only``.

    ``against`` None: by the build's own steps, cached as any. A URL: by asking that server. A path: by asking the artifact
    there, booted as its target would. VerifyError when a server does not answer.
    """
    evals = _chosen(build.read(order).spec.evals, only)
    gates = {name: each.gates for name, each in evals.items()}
    if against is None:
        results: Mapping[str, Result] = build.evaluate(order, evals, monitor)
    else:
        asked = _Asked(evals, _questions(order, evals, monitor), monitor)
        if against.startswith(("http://", "https://")):
            asked.ask(against)
        else:
            _boot(Path(against), asked)
        results = asked.results
    why = "it needs a service that is not compiled in; start the artifact and use --against URL"
    return Measured(results, gates, {name: why for name in evals if name not in results})


class _Asked:
    """Asks one server everything, and keeps what it found."""

    def __init__(
        self, evals: Mapping[str, Eval], questions: Mapping[str, tuple[Question, ...]], monitor: Monitor
    ) -> None:
        self._evals, self._questions, self._monitor = evals, questions, monitor
        self.results: dict[str, Result] = {}

    def ask(self, base_url: str) -> None:
        server = Server(base_url)
        for name, spec in self._evals.items():
            started = time.monotonic()
            self._monitor.started(f"evals.{name}", base_url)
            self.results[name] = self._one(server, f"evals.{name}", spec, self._questions[name])
            self._monitor.finished(f"evals.{name}", time.monotonic() - started, cached=False)

    def _one(self, server: Server, name: str, spec: Eval, questions: tuple[Question, ...]) -> Result:
        done = iter(range(1, len(questions) + 1))

        def search(question: str) -> Sequence[Place]:
            self._monitor.progress(name, next(done), len(questions), question)
            return server.search(spec.store or "", question, spec.k, spec.mode or "")

        def answer(question: str) -> measure.Said:
            self._monitor.progress(name, next(done), len(questions), question)
            return server.answer(spec.agent or "", question)

        if spec.store is None:
            return measure.agent(spec.agent or "", questions, answer)
        return measure.store(spec.store, questions, {spec.mode or "": search}, spec.k, spec.gates)

    def checks(self, base_url: str) -> Iterator[Check]:
        self.ask(base_url)
        yield Check("evals", True, ", ".join(self.results))


def _chosen(evals: Mapping[str, Eval], only: Sequence[str]) -> dict[str, Eval]:
    unknown = [name for name in only if name not in evals]
    if unknown:
        message = f"there is no evaluation '{unknown[0]}'.{did_you_mean(unknown[0], evals)}"
        raise SpecError([Problem(("evals",), message, "--only")])
    return {name: each for name, each in evals.items() if not only or name in only}


def _questions(order: build.Order, evals: Mapping[str, Eval], monitor: Monitor) -> dict[str, tuple[Question, ...]]:
    root = order.spec.parent
    found = sources.resolve(
        [each.questions for each in evals.values()],
        root=root,
        lock=lock.read(root / lock.FILE_NAME),
        cache=disk.folder_from(os.environ),
        offline=order.offline,
        locked=order.locked,
        monitor=monitor,
    )
    files = {name: found[each.questions].files[0] for name, each in evals.items()}
    return {name: load(file.location, file.path) for name, file in files.items()}


def _boot(artifact: Path, asked: _Asked) -> None:
    found = inspection.inspect(artifact)
    failed = [check for check in found.target.verify(artifact, asked.checks) if not check.ok]
    if failed:
        raise VerifyError(f"{failed[0].name}: {failed[0].detail}", where=str(artifact))
    if not asked.results:
        raise VerifyError("this machine cannot boot the artifact, so nothing was asked", where=str(artifact))
