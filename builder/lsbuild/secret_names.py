"""Finds the secrets that a configuration names (``{"secret": "NAME"}``); it never sees their values."""

from __future__ import annotations

from collections.abc import Iterator

from lsbuild.api import Json, Manifest


def secrets_of(manifest: Manifest) -> tuple[str, ...]:
    """The variables that the configuration of services takes secrets from, sorted."""
    return tuple(sorted({name for service in manifest.services for name in named_in(service.config)}))


def named_in(value: Json) -> Iterator[str]:
    """The names in one configuration, in its order."""
    if isinstance(value, dict):
        name = value.get("secret")
        if len(value) == 1 and isinstance(name, str):
            yield name
        else:
            for each in value.values():
                yield from named_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from named_in(each)
