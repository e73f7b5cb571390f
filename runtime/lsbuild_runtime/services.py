"""The services of a bundle: found by API and name, opened once on first use, with secrets and settings filled in."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lsbuild_runtime.http import ApiError
from lsbuild_runtime.manifest import FileEntry, Manifest, ManifestError, Service, check_files

if TYPE_CHECKING:
    from lsbuild_runtime.ports import Placement

MODEL_APIS = ("inference", "agents", "embeddings", "rerank")
"""The APIs whose services are models to a client."""

NO_STATE = "no_state"
"""The code of the ApiError when the server has no folder for state."""

CheckFiles = Callable[[Path, tuple[FileEntry, ...]], None]
"""Compares files below a folder with their entries; ManifestError names the first that differs."""

_VARIABLE = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)(?::=([^}]*))?\}")


class Services:
    """Implements ports.Host. Safe for use from several threads; a service that failed to open is tried again."""

    def __init__(
        self, manifest: Manifest, root: Path, state: Path | None = None, check: CheckFiles = check_files
    ) -> None:
        self.check = check
        self.doing = ""
        """What is being opened at the start of the server, in words; requests do not wait for it."""
        self.heard: Callable[[str], None] = _ignore
        """Takes what a service says of its opening."""
        self._manifest = manifest
        self._root = root
        self._state = state
        self._by_key = {(service.api, service.name): service for service in manifest.services}
        self._opened: dict[tuple[str, str], Any] = {}
        self._bare: dict[tuple[str, str], Any] = {}
        # Re-entrant: an agent opens its model while it is being opened itself.
        self._lock = threading.RLock()

    def __iter__(self) -> Iterator[Service]:
        return iter(self._by_key.values())

    def find(self, apis: Iterable[str], name: str) -> Service | None:
        """The first service of that name among ``apis``, or None."""
        return next((found for api in apis if (found := self._by_key.get((api, name)))), None)

    def get(self, api: str, name: str) -> Any:
        """The opened service; ApiError 404 when the bundle has none, 503 when it cannot be opened."""
        port = self._opened.get((api, name))
        return port if port is not None else self._open(api, name)

    def bare(self, api: str, name: str) -> Any:
        """The opened service without the shields before it, for a shield that asks a model; errors as of ``get``."""
        service = self._by_key.get((api, name))
        if service is None:
            raise ApiError(404, f"the bundle has no {api} named {name!r}", code="not_found")
        with self._turn():
            port = self._bare.get((api, name))
            if port is None:
                port = self._bare[api, name] = open_service(service, self._manifest, self._root, self)
            return port

    def prepare(self, api: str, name: str) -> Any:
        """As ``get``, but it waits for its turn whatever ``doing`` says: for whoever opens services at the start."""
        with self._lock:
            return self.get(api, name)

    def tell(self, what: str) -> None:
        """See ports.Telling."""
        if self.doing:
            self.doing = what
            self.heard(what)

    def is_open(self, api: str, name: str) -> bool:
        """Whether the service was opened."""
        return (api, name) in self._opened

    def placement(self, api: str, name: str) -> Placement | None:
        """Where an opened model runs; None where it does not say, and for one that is not open."""
        found: Placement | None = getattr(self._bare.get((api, name)), "placement", None)
        return found

    @property
    def state_path(self) -> Path | None:
        """The server's state folder, which may not be made yet; None when it keeps no state."""
        return self._state

    def state(self, name: str) -> Path:
        """The folder ``name`` below the server's state folder, mode 0700; ApiError 503 when there is none to write to."""
        if self._state is None:
            raise _unavailable(
                "this server keeps no state: start it with --state FOLDER or set LSBUILD_STATE", NO_STATE
            )
        folder = self._state / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            fault = f"the state folder {folder} cannot be made ({error.strerror})"
            raise _unavailable(f"{fault}; start the server with --state FOLDER or set LSBUILD_STATE") from error
        return folder

    def keeps(self, name: str) -> bool:
        """Whether the file ``name`` is below the state folder: one look, and a folder that may not be looked into holds none."""
        try:
            return self._state is not None and (self._state / name).exists()
        except OSError:
            return False

    def faults(self, service: Service) -> list[str]:
        """Why ``service`` cannot be opened now: missing secrets, missing files. Reads file sizes only."""
        if (service.api, service.name) in self._opened:
            return []
        faults = [f"{service.api}/{service.name}: {fault}" for fault in missing_secrets(service.config)]
        for entry in files_of(service, self._manifest):
            path = self._root / entry.path
            if not path.is_file() or path.stat().st_size != entry.size:
                faults.append(f"{entry.path} is missing or has another size")
        return faults

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The turn to open a service. ApiError 503 where the start of the server has it: that may take minutes."""
        if not self._lock.acquire(blocking=not self.doing):
            raise ApiError(503, f"not ready yet: {self.doing}", type="server_error", code="preparing", retry_after=5)
        try:
            yield
        finally:
            self._lock.release()

    def _open(self, api: str, name: str) -> Any:
        with self._turn():
            port = self._opened.get((api, name))
            if port is None:
                port = _shielded(self.bare(api, name), self._by_key[api, name], self)
                self._opened[api, name] = port
            return port


def _ignore(_line: str) -> None:
    """Nobody is told."""


def open_service(service: Service, manifest: Manifest, root: Path, host: Services) -> Any:
    """Check the service's files, resolve its config and call its entry. ApiError 503 says what is missing."""
    label = f"{service.api}/{service.name}"
    missing = missing_secrets(service.config)
    if missing:
        raise _unavailable(f"{label} cannot be opened: {'; '.join(missing)}")
    try:
        host.check(root, files_of(service, manifest))
    except ManifestError as error:
        raise _unavailable(f"{label} cannot be opened: {error}") from error
    module, _, attribute = service.entry.partition(":")
    entry = getattr(import_module(module), attribute)
    return entry(msgspec.structs.replace(service, config=resolve(service.config)), root, host)


def _shielded(port: Any, service: Service, host: Services) -> Any:
    """``port`` behind the shields that ``service`` needs; a shield that needs another one asks it itself."""
    if service.api not in ("inference", "agents") or not any(need.startswith("safety/") for need in service.needs):
        return port
    from lsbuild_runtime.safety.looking import before  # only where there are shields
    from lsbuild_runtime.safety.shielded import Shielded

    return Shielded(port, before(service, host))


def files_of(service: Service, manifest: Manifest) -> tuple[FileEntry, ...]:
    """The files below the service's folder."""
    if not service.path:
        return ()
    prefix = service.path.rstrip("/") + "/"
    return tuple(entry for entry in manifest.files if entry.path.startswith(prefix) or entry.path == service.path)


def boot_files(manifest: Manifest) -> tuple[FileEntry, ...]:
    """What is checked at start: every file that is neither a wheel's nor a service's (those are checked on opening)."""
    owned = tuple(service.path.rstrip("/") + "/" for service in manifest.services if service.path)
    return tuple(entry for entry in manifest.files if entry.part != "wheels" and not entry.path.startswith(owned))


def resolve(value: Any) -> Any:
    """``{"secret": "NAME"}`` and ``${env.NAME:=default}`` inside ``value``, replaced from the environment."""
    if isinstance(value, dict):
        name = _secret(value)
        return os.environ[name] if name else {key: resolve(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item) for item in value]
    if isinstance(value, str) and "${env." in value:
        return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[2] or ""), value)
    return value


def missing_secrets(value: Any) -> list[str]:
    """One sentence for each secret that is not in the environment."""
    if isinstance(value, dict):
        name = _secret(value)
        if name:
            return [] if os.environ.get(name) else [f"set the environment variable {name} (a secret of the spec)"]
        return [fault for item in value.values() for fault in missing_secrets(item)]
    if isinstance(value, list | tuple):
        return [fault for item in value for fault in missing_secrets(item)]
    return []


def _secret(value: dict[str, Any]) -> str:
    name = value.get("secret")
    return name if len(value) == 1 and isinstance(name, str) else ""


def _unavailable(message: str, code: str = "service_unavailable") -> ApiError:
    return ApiError(503, message, type="server_error", code=code)
