"""The same spec gives the same bytes: on another path, as another user, at another time, in another language.

Everything is compiled twice, the second time into an empty cache, with nothing in common but the fetched sources. The
target ``host`` is always built, the others with LSBUILD_E2E=1.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifact_tools import ROOT, Done, Lsbuild

SPEC = """\
version: 1
name: twice
models:
  letters: {type: embedding, provider: "remote::openai", dimensions: 8, config: {base_url: "http://127.0.0.1:9/v1"}}
tools:
  units: {python: tools/convert.py}
shields:
  guard: {config: {packs: [secrets, prompt-injection]}}
"""
MODELS = """\
models:
  chat: {type: llm, source: builtin://tiny-agent, quantize: int8, context: 256}
"""
NOBODY = 65534
OTHER = {
    "PYTHONHASHSEED": "4711",
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR.UTF-8",
    "COLUMNS": "40",
    "USER": "somebody",
    "PYTHONUTF8": "0",
}
PATH = os.pathsep.join(place for place in sys.path if place)
"""For a Python that this environment does not belong to."""
TARGETS = ("host", "lambda", "rpi", "jetson", "container")

Twice = Callable[[str], tuple[Path, Path]]


def other_user(words: list[str], folder: Path) -> list[str]:
    """A command of Python as a user who owns nothing but ``folder``; as it is where this user is not root.

    The Python is this very one: another patch version compiles other bytecode. Where it lies in somebody's home it is copied.
    """
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        return words
    before = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--"]
    before += ["env", f"PYTHONPATH={PATH}", f"LD_LIBRARY_PATH={folder / 'python' / 'lib'}"]
    wanted = f"import lsbuild.cli, onnx, platform; assert platform.python_version() == '{platform.python_version()}'"
    for python in (sys.executable, str(_copied(folder / "python"))):
        # A shell between: setpriv itself may still start what that user may not.
        tried = [*before, "sh", "-c", 'exec "$0" -c "$1"', python, wanted]
        if not subprocess.run(tried, capture_output=True, check=False).returncode:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(folder)], check=True)
            return [*before, *(python if word == sys.executable else word for word in words)]
    return words


def _copied(folder: Path) -> Path:
    """This Python with its library, where everybody can read it; its packages come by PYTHONPATH."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix)
    python = folder / "bin" / version
    if not folder.exists() and (base / "bin" / version).exists():
        unused = shutil.ignore_patterns("site-packages", "test", "idlelib", "config-*", "*.a")
        shutil.copytree(base / "lib" / version, folder / "lib" / version, ignore=unused, symlinks=True)
        for library in (base / "lib").glob("libpython*.so*"):
            shutil.copy(library, folder / "lib")
        python.parent.mkdir()
        shutil.copy(base / "bin" / version, python)
    return python


def other_time(words: list[str]) -> list[str]:
    """``words`` three years later, by a clock that runs twice as fast; as they are where libfaketime is not installed."""
    faketime = shutil.which("faketime")
    return [faketime, "-f", "+1100d x2", *words] if faketime else words


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that other users can enter: pytest closes its own."""
    folder = Path(tempfile.mkdtemp(prefix="lsbuild else where "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def twice(lsbuild: Lsbuild, tmp_path: Path, elsewhere: Path) -> Twice:
    """Build a spec for a target here, and then as differently as this machine can."""

    def build(target: str) -> tuple[Path, Path]:
        one, two = tmp_path, elsewhere / "deep" / "er"
        _project(one)
        first = lsbuild(one / "spec.yaml", "--target", target, "-o", one / "art", "--json")
        if first.code == 3:
            pytest.skip(f"no package index or Debian mirror: {first.json['error']['message']}")
        assert first.code == 0, first.out + first.err
        _project(two)
        shutil.copy(one / "lsbuild.lock", two)
        _sources(lsbuild.cache, two / "cache")
        second = _differently(two, target)
        assert second.code == 0, second.out + second.err
        assert first.json["artifact"]["sha256"] == second.json["artifact"]["sha256"], differing(
            one / "art", two / "art"
        )
        return one / "art", two / "art"

    return build


def _project(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # A chat model as well: what is emitted and quantised has to be the same too.
    (folder / "spec.yaml").write_text(SPEC.replace("models:\n", MODELS))
    shutil.copytree(ROOT / "examples" / "quickstart" / "tools", folder / "tools", ignore=shutil.ignore_patterns("__*"))


def _sources(cache: Path, other: Path) -> None:
    """What was fetched, and nothing that was made of it."""
    other.mkdir()
    for name in ("blobs", "trees", "hashes.json"):
        if (cache / name).is_dir():
            shutil.copytree(cache / name, other / name, symlinks=True)
        elif (cache / name).exists():
            shutil.copy(cache / name, other / name)


def _differently(folder: Path, target: str) -> Done:
    words = [sys.executable, "-m", "lsbuild", str(folder / "spec.yaml"), "--target", target]
    words += ["-o", str(folder / "art"), "--locked", "--offline", "--jobs", "1", "--json"]
    environ = {
        **os.environ,
        **OTHER,
        "LSBUILD_CACHE": str(folder / "cache"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    command = other_user(other_time(words), folder.parents[1])
    before = os.umask(0o077)
    try:
        done = subprocess.run(
            command, env=environ, cwd=folder, capture_output=True, text=True, timeout=600, check=False
        )
    finally:
        os.umask(before)
    return Done(done.returncode, done.stdout, done.stderr)


def differing(one: Path, other: Path) -> str:
    """The names of files that are not the same, for whoever has to mend it."""
    names = sorted(
        {path.relative_to(root).as_posix() for root in (one, other) for path in root.rglob("*") if path.is_file()}
    )
    return ", ".join(name for name in names if _state(one / name) != _state(other / name)) or "modes or times"


def _state(path: Path) -> tuple[bytes, int, float] | None:
    return (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime) if path.is_file() else None


@pytest.mark.parametrize("target", TARGETS)
def test_another_machine_s_build_has_the_same_bytes(twice: Twice, target: str) -> None:
    if target != "host" and os.environ.get("LSBUILD_E2E") != "1":
        pytest.skip("minutes of compiling: set LSBUILD_E2E=1 (make e2e)")
    one, other = twice(target)
    assert differing(one, other) == "modes or times"
    states = [{path.relative_to(root): path.stat().st_mode for path in root.rglob("*")} for root in (one, other)]
    assert states[0] == states[1]


def test_the_variations_are_really_other_ones(elsewhere: Path) -> None:
    """So that no green test above means less than it says, what could not be varied here is a skip that names it."""
    words = other_time([sys.executable, "-c", "import json, os, time; print(json.dumps([os.getuid(), time.time()]))"])
    done = subprocess.run(other_user(words, elsewhere), capture_output=True, text=True, check=True)
    user, now = json.loads(done.stdout)
    lacking = []
    if user == os.getuid():
        lacking.append("another user (needs root, setpriv, and a Python that everybody can read)")
    if abs(now - elsewhere.stat().st_mtime) < 1e6:
        lacking.append("another clock (apt-get install faketime)")
    if lacking:
        pytest.skip(f"not varied here: {'; '.join(lacking)}")
