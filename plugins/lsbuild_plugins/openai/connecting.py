"""How another server is reached: the settings that its models and its moderations share, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from lsbuild.api import Problem
from lsbuild.declaring import HEADER
from lsbuild.spec.secret import Secret
from lsbuild.spec.units import Seconds

SERVE = "lsbuild_plugins.openai.serve"
WHEELS = ("httptools>=0.6.4",)


class Connection(BaseModel):
    """Settings of anything on another server, under ``config``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    base_url: str
    """Where the API begins, with its version: ``https://api.example.com/v1``. May hold ``${env.NAME:=default}``."""
    api_key: Secret | None = None
    """The key for the Authorization header, as ``{secret: NAME}``."""
    model: str | None = None
    """The model's name over there; default: its name here."""
    timeout: Seconds = 60.0
    """Longest silence of the other side, such as ``60s``."""
    headers: dict[str, str | Secret] = {}
    """Further headers for each request."""
    connections: int = Field(default=64, ge=1, le=4096)
    """Idle connections that are kept open at most."""


def faults_of(config: Connection) -> Iterator[Problem]:
    """What the types do not show."""
    fault = url_fault(config.base_url)
    if fault:
        yield Problem(("config", "base_url"), fault)
    for name in config.headers:
        if not HEADER.fullmatch(name):
            yield Problem(("config", "headers", name), f"{name!r} is not the name of an HTTP header")


def url_fault(url: str) -> str:
    """What is wrong with a base URL, or ""; one with ``${env.`` in it is known only when the artifact runs."""
    if "${env." in url:
        return ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url!r} is not a URL ({error}); write https://HOST/v1"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return f"{url!r} is not an http or https URL; write https://HOST/v1"
    if parts.query or parts.fragment:
        return f"{url!r} has a query or a fragment; paths such as /chat/completions are appended to it"
    if parts.username or parts.password:
        return "the URL holds a password; use api_key: {secret: NAME}"
    return ""
