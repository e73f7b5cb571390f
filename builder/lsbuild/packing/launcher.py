"""Writes ``run``, the script that starts an artifact that is a folder; it looks for a fitting Python and needs no more."""

from __future__ import annotations

from lsbuild.api import Platform
from lsbuild.packing.boot import BOOTSTRAP, DOCTOR

NO_PYTHON = 10
"""The script's exit code when the machine or its Python does not fit."""
_RUN = """#!/bin/sh
# Starts this artifact; takes --host and --port. LSBUILD_PYTHON names a Python to try first.
# `run doctor` says what this machine has and lacks; any Python 3.9 or newer does for that.
root=$(dirname -- "$(readlink -f -- "$0")")
machine=$(uname -m)
if [ "${{1:-}}" = doctor ]; then
    for python in "${{LSBUILD_PYTHON:-python{python}}}" python{python} python3 python; do
        "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null &&
            exec "$python" -I -S -B -X utf8 -c "{doctor}" --root "$root" "$@"
    done
    echo "run: doctor needs a Python, and none is on PATH; install python{python}" >&2
    exit {code}
fi
if [ "$machine" != "{arch}" ]; then
    echo "run: this artifact is for {arch}, this machine is $machine" >&2
    exit {code}
fi
for python in "${{LSBUILD_PYTHON:-python{python}}}" python{python} python3 python; do
    found=$("$python" -I -S -c 'import sys
if sys.implementation.cache_tag == "{tag}" and "t" not in sys.abiflags and sys.maxsize > 2**32: print(sys.executable)' \\
        2>/dev/null) && [ -n "$found" ] &&
        exec "$found" -I -S -B -X utf8 -c "{bootstrap}" --root "$root" "$@"
done
echo "run: needs Python {python} ({arch}), and none is on PATH; install it or set LSBUILD_PYTHON" >&2
exit {code}
"""


def script(platform: Platform) -> bytes:
    """The text of the script."""
    tag = f"cpython-{platform.python.replace('.', '')}"
    codes = {"code": NO_PYTHON, "bootstrap": BOOTSTRAP, "doctor": DOCTOR}
    return _RUN.format(arch=platform.arch, python=platform.python, tag=tag, **codes).encode()
