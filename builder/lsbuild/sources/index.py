"""The two clients of the package index: uv resolves for any platform, pip downloads the very files; nothing else does.

Each keeps to the user's own configuration. Where only one of them is configured by environment variables or pip.conf,
the other is told. No host is named here.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsbuild.errors import SourceError

_SAME = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_CERT": "SSL_CERT_FILE", "PIP_NO_INDEX": "UV_NO_INDEX"}
_TIMEOUT = 900


def uv(words: Sequence[str], where: str) -> str:
    """Run ``uv`` and return what it printed; SourceError with its last lines when it fails."""
    from uv import find_uv_bin  # cold: most builds need no index

    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", **_for_uv(os.environ)}
    return _run([find_uv_bin(), *words], environ, where)


def pip(words: Sequence[str], where: str) -> str:
    """Run ``pip`` of this Python and return what it printed; SourceError with its last lines when it fails."""
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **_for_pip(os.environ)}
    return _run([sys.executable, "-m", "pip", *words], environ, where)


def download(requirements: Path, folder: Path, platform: Sequence[str], where: str) -> list[Path]:
    """Download the wheels that a file of exact pins names, without dependencies, for the ``--platform`` words given."""
    words = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", *platform]
    pip([*words, "--dest", str(folder), "--requirement", str(requirements)], where)
    return sorted(folder.glob("*.whl"))


def _run(command: Sequence[str], environ: Mapping[str, str], where: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell
            command, env=dict(environ), capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"no answer from the package index in {_TIMEOUT} s", where=where) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(("WARNING", "[notice]", "warning"))] or lines
        raise SourceError(
            "\n  ".join(told[-6:]) or f"{Path(command[0]).name} ended with status {done.returncode}",
            where=where,
            hint="Check the network and the index that pip and uv are configured for; --offline uses what is cached.",
        )
    return done.stdout


def _for_uv(environ: Mapping[str, str]) -> dict[str, str]:
    told = {theirs: environ[ours] for ours, theirs in _SAME.items() if ours in environ and theirs not in environ}
    named = {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_NO_INDEX"} & {*environ, *told}
    if not named and (url := _pip_setting("index-url")):
        told["UV_DEFAULT_INDEX"] = url
    return told


def _for_pip(environ: Mapping[str, str]) -> dict[str, str]:
    told = {ours: environ[theirs] for ours, theirs in _SAME.items() if theirs in environ and ours not in environ}
    if "UV_INDEX_URL" in environ and "PIP_INDEX_URL" not in {*environ, *told}:
        told["PIP_INDEX_URL"] = environ["UV_INDEX_URL"]
    return told


def _pip_setting(name: str) -> str:
    """A setting from pip's configuration files; "" when there is none."""
    listed = _run([sys.executable, "-m", "pip", "config", "list"], os.environ, "pip config")
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if key.strip().endswith(f".{name}"):
            return str(ast.literal_eval(value))
    return ""
