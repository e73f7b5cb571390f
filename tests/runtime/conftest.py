"""One application over the small services for all tests of the runtime, and a way to ask it."""

from __future__ import annotations

import functools

import pytest

from lsbuild_runtime.app import App
from runtime_asking import Ask, asked
from small_services import small_manifest


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    """The application over all small services."""
    return App(small_manifest(), tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def ask(app: App) -> Ask:
    """``ask(method, path, body=None, query=None, headers=None)``; a body that is not bytes is sent as JSON."""
    return functools.partial(asked, app)
