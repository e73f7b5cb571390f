"""Where things lie on a device, and what was set up there; it changes nothing.

ROOT/state.json     what serves, what is on trial, how far versions have come: the record that decides
ROOT/current        symbolic link to the slot that is started; none starts what was installed
ROOT/slots/a, b     two versions, of which at most one is being changed
ROOT/incoming/      the envelope of the update that is fetched, and its parts
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from lsbuild_runtime.updates import keys
from lsbuild_runtime.updates.errors import Unusable

MANIFEST = "manifest.json"
SLOTS = ("a", "b")


class Place(NamedTuple):
    """``unit`` names the service, ``factory`` is the folder that was installed, ``root`` that of the updates.

    ``settings`` is the administrator's file with keys and address, ``environment`` the one with host and port.
    """

    unit: str
    factory: Path
    root: Path
    settings: Path
    environment: Path

    @property
    def state(self) -> Path:
        """The record."""
        return self.root / "state.json"

    @property
    def current(self) -> Path:
        """The link to what is started."""
        return self.root / "current"

    @property
    def updating(self) -> Path:
        """Locked while an updater works."""
        return self.root / "updating.lock"

    @property
    def incoming(self) -> Path:
        """What is being fetched."""
        return self.root / "incoming"

    def slot(self, name: str) -> Path:
        """The folder of a slot; "" is what was installed."""
        return self.root / "slots" / name if name else self.factory


class Settings(NamedTuple):
    """What the administrator set: keys that are trusted, where updates come from, how the service is started again."""

    keys: tuple[bytes, ...]
    url: str
    restart: tuple[str, ...]
    digest: str
    """Of the keys: when they are changed by hand, keys that came with updates no longer count."""


class Identity(NamedTuple):
    """What this device is: updates for anything else are refused. ``digest`` tells one installed version from another."""

    product: str
    target: str
    platform: str
    host: str
    port: int
    digest: str


def read_settings(place: Place) -> Settings:
    """Raises Unusable where the file is missing or wrong."""
    try:
        value = json.loads(place.settings.read_bytes())
        unknown = set(value) - {"keys", "url", "restart"}
        if unknown:
            raise Unusable(f"{place.settings}: there is no setting {sorted(unknown)[0]!r}; known: keys, restart, url")
        texts = [str(text) for text in value.get("keys", [])]
        restart = tuple(str(word) for word in value.get("restart", [])) or (
            "systemctl", "restart", "--no-block", place.unit
        )  # fmt: skip
        digest = hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()
        return Settings(tuple(map(keys.parse, texts)), str(value.get("url", "")), restart, digest)
    except OSError as error:
        raise Unusable(f"{place.settings}: {error.strerror}; it names the keys that are trusted") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise Unusable(f"{place.settings}: {error}") from error


def read_identity(place: Place) -> Identity:
    """Of what was installed. Raises Unusable where that is damaged."""
    path = place.factory / MANIFEST
    try:
        data = path.read_bytes()
        value = json.loads(data)
        server = value["server"]
        return Identity(
            product=str(value["name"]),
            target=str(value["target"]),
            platform=str(value["platform"]),
            host=str(server["host"]),
            port=int(server["port"]),
            digest=hashlib.sha256(data).hexdigest(),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{path} is damaged: {error!r}; install the package again") from error


def read_address(place: Place, identity: Identity) -> str:
    """``http://HOST:PORT`` where the service answers on this machine."""
    found = {"LSBUILD_HOST": identity.host, "LSBUILD_PORT": str(identity.port)}
    if place.environment.is_file():
        for line in place.environment.read_text(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() in found:
                found[name.strip()] = value.strip().strip("\"'")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(found["LSBUILD_HOST"], found["LSBUILD_HOST"])  # noqa: S104
    return f"http://[{host}]:{found['LSBUILD_PORT']}" if ":" in host else f"http://{host}:{found['LSBUILD_PORT']}"
