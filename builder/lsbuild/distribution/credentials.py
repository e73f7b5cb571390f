"""Finds the login for a registry where Docker and podman keep it: their configuration files, helpers, and one variable.

``DOCKER_AUTH_CONFIG`` (the text of a configuration) goes before the files. Nothing is written, and no login is shown.
"""

from __future__ import annotations

import base64
import binascii
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsbuild.distribution.errors import DistributionError

_HUB_KEYS = ("index.docker.io", "docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105 - the protocol's mark for an identity token
_HELPER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Login:
    """A user with a password, or an identity token that buys other tokens (``identity``)."""

    user: str
    password: str = field(repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(host: str, environ: Mapping[str, str]) -> Login | None:
    """The login for ``host`` (``registry.example:5000``); None is an anonymous visit. Raises DistributionError."""
    keys = _HUB_KEYS if host in _HUB_KEYS else (host,)
    for place, config in _configurations(environ):
        found = _in(config, keys, place, environ)
        if found is not None:
            return found
    return None


def _configurations(environ: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if text := environ.get("DOCKER_AUTH_CONFIG"):
        yield "DOCKER_AUTH_CONFIG", _parsed(text, "DOCKER_AUTH_CONFIG")
    for path in _files(environ):
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DistributionError(f"cannot be read: {error}", where=str(path)) from error
        yield str(path), _parsed(text, str(path))


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = environ.get("HOME", "")
    if given := environ.get("REGISTRY_AUTH_FILE"):
        yield Path(given)
    if given := environ.get("DOCKER_CONFIG"):
        yield Path(given, "config.json")
    elif home:
        yield Path(home, ".docker/config.json")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers/auth.json")
    if home:
        yield Path(home, ".config/containers/auth.json")


def _parsed(text: str, place: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DistributionError(f"is not readable JSON: {error}", where=place) from error
    return value if isinstance(value, dict) else {}


def _in(config: Mapping[str, Any], keys: tuple[str, ...], place: str, environ: Mapping[str, str]) -> Login | None:
    """As Docker looks: the helper of this registry, then the store of all, then what stands in the file itself."""
    helpers = _map(config, "credHelpers")
    named = {_plain(key): (key, value) for key, value in _map(config, "auths").items() if isinstance(value, dict)}
    for key in keys:
        helper = helpers.get(key) or config.get("credsStore")
        # A store of all logins that is not installed counts only where it was used.
        if helper and (key in helpers or key in named or shutil.which(_program(helper), path=environ.get("PATH"))):
            found = _asked(_program(helper), named[key][0] if key in named else key, environ)
            if found is not None:
                return found
        if key in named and (found := _written(named[key][1], place, key)) is not None:
            return found
    return None


def _map(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _plain(key: str) -> str:
    """``https://index.docker.io/v1/`` -> ``index.docker.io``."""
    return key.split("://", 1)[-1].split("/", 1)[0]


def _written(entry: Mapping[str, Any], place: str, key: str) -> Login | None:
    if token := entry.get("identitytoken"):
        return Login(_TOKEN_USER, "", str(token))
    if "username" in entry and "password" in entry:
        return Login(str(entry["username"]), str(entry["password"]))
    if not entry.get("auth"):
        return None
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().rstrip("\0").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = colon = password = ""
    if not colon:
        raise DistributionError(
            f"the login for {key} is damaged", where=place, hint=f"`docker login {key}` writes it again"
        )
    return Login(user, password)


def _program(helper: object) -> str:
    return f"docker-credential-{helper}"


def _asked(name: str, key: str, environ: Mapping[str, str]) -> Login | None:
    """What the helper ``name`` answers to ``get``; None when it has nothing for ``key``."""
    tool = shutil.which(name, path=environ.get("PATH"))
    if tool is None:
        raise DistributionError(
            f"the configuration of Docker asks {name} for the login of {key}, and it is not installed",
            hint="install it, or take the line out of ~/.docker/config.json and log in again",
        )
    try:
        done = subprocess.run(  # noqa: S603 - the user's own configuration names it
            [tool, "get"],
            input=key,
            env=dict(environ),
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DistributionError(f"{name} gave no answer: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        if "not found" in said.lower():
            return None
        raise DistributionError(f"{name} has no login for {key}: {said[:300]}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise DistributionError(f"{name} answered something that is no login") from error
    return Login(user, "", secret) if user == _TOKEN_USER else Login(user, secret)
