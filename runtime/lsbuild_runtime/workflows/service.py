"""A workflow as a service: opened from its file, with what checks its input; and all runs of a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.ports import Host
from lsbuild_runtime.tools.arguments import fault
from lsbuild_runtime.workflows import API, FILE_NAME, FOLDER
from lsbuild_runtime.workflows.course import Course
from lsbuild_runtime.workflows.journal import Journal
from lsbuild_runtime.workflows.kept import Runs
from lsbuild_runtime.workflows.plan import Workflow, read

if TYPE_CHECKING:
    from lsbuild_runtime.routing import Site
    from lsbuild_runtime.workflows.worker import Worker


class Opened:
    """A workflow that can be run."""

    def __init__(self, workflow: Workflow, host: Host) -> None:
        self.workflow = workflow
        self._host = host

    def checked(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a run is given; ApiError 400 when it does not fit the workflow's schema."""
        if wrong := fault(given, self.workflow.input):
            said = wrong.replace("The arguments do not fit the tool", "it does not fit the workflow")
            raise ApiError(400, f"input: {said}", param="input", code="invalid_value")
        return given

    def course(self, given: Mapping[str, Any], journal: Journal) -> Course:
        """A run of it."""
        return Course(self.workflow, given, self._host, journal)


def open_workflow(service: Service, root: Path, host: Host) -> Opened:
    """The entry for services of the API ``workflows``. What its steps use is opened by the steps."""
    return Opened(read(root / service.path), host)


class Workflows:
    """All workflows of a server and their runs. Safe for use from several threads."""

    def __init__(self, site: Site) -> None:
        self.observe = site.observe
        self.clock = site.clock
        self._services = site.services
        self._lock = threading.Lock()
        self._runs: Runs | None = None
        self._worker: Worker | None = None

    def listing(self) -> Iterator[Service]:
        """Their services, in the order of the spec."""
        return (service for service in self._services if service.api == API)

    def get(self, name: str) -> Opened:
        """The workflow; ApiError 404 when there is none of that name."""
        if self._services.find((API,), name) is None:
            message = f"no workflow {name[:100]!r}; GET /v1/workflows lists them"
            raise ApiError(404, message, code="workflow_not_found")
        opened: Opened = self._services.get(API, name)
        return opened

    @property
    def keeps(self) -> bool:
        """Whether runs are kept: the server has a state folder."""
        return self._services.state_path is not None

    @property
    def runs(self) -> Runs:
        """What is kept; ApiError 503 when this server keeps no state."""
        if self._runs is None:
            folder = self._services.state(FOLDER)
            with self._lock:
                self._runs = self._runs or Runs(folder / FILE_NAME, self.clock)
            self.worker.wake()  # who keeps runs takes over what other servers leave, also on a folder that was new
        return self._runs

    @property
    def worker(self) -> Worker:
        """Who works at runs that nobody waits for."""
        if self._worker is None:
            from lsbuild_runtime.workflows.worker import Worker

            runs, folder = self.runs, self._services.state(FOLDER)
            with self._lock:
                self._worker = self._worker or Worker(self, runs, folder)
        return self._worker

    def close(self) -> None:
        """Stop the work; what is not over goes on with the next start."""
        if self._worker is not None:
            self._worker.stop()
        if self._runs is not None:
            self._runs.close()
