"""The registry: every registered name loads; plugins from elsewhere are found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lsbuild import registry
from lsbuild.errors import LsbuildError, SpecError, TargetError
from lsbuild.spec.kinds import KINDS

OUTSIDE = Path(__file__).parent / "outside"


@pytest.mark.parametrize("provider", registry.PLUGINS)
def test_every_registered_plugin_loads(provider: str) -> None:
    plugin = registry.plugin(provider)
    assert plugin.provider == provider
    assert set(plugin.kinds) <= {*KINDS, "server"}
    for method in ("check", "refers", "sources", "compile"):
        assert callable(getattr(plugin, method)), method


@pytest.mark.parametrize("name", registry.TARGETS)
def test_every_registered_target_loads(name: str) -> None:
    target = registry.target(name)
    assert target.name == name
    assert target.platforms(target.Options())
    for method in ("sources", "steps", "pack", "verify"):
        assert callable(getattr(target, method)), method


def test_looking_up_names_imports_nothing() -> None:
    import subprocess

    script = (
        "import sys, lsbuild.registry as r; r.find(); r.target_names();"
        "print([m for m in sys.modules if m.startswith(('lsbuild_plugins', 'lsbuild_targets', 'onnx', 'numpy'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unknown_names_come_with_a_guess() -> None:
    with pytest.raises(
        SpecError, match=r"spec\.yaml:3:5: unknown provider 'inline::onx'\. Did you mean 'inline::onnx'\?"
    ):
        registry.find().plugin("inline::onx", ("models", "a"), "spec.yaml:3:5")
    with pytest.raises(TargetError, match=r"unknown target 'hots'\. Did you mean 'host'\?"):
        registry.target("hots")


def test_a_local_folder_is_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = registry.find(["outside/echo_plugin"], OUTSIDE.parent)
    assert found.plugin("inline::echo").kinds == ("models",)
    assert found.paths == (OUTSIDE,)
    assert "inline::onnx" in found.plugins


def test_a_folder_without_a_plugin_is_a_fault_of_the_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"plugins\.0: nothing: no plugin\.py in this folder"):
        registry.find(["nothing"], tmp_path)


def test_installed_packages_announce_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "far_away-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lsbuild.plugins]\ninline::far = echo_plugin.plugin:PLUGIN\n[lsbuild.targets]\nmoon = far_away:TARGET\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(OUTSIDE)
    assert registry.plugin("inline::far").provider == "inline::echo"
    assert "moon" in registry.target_names()
    with pytest.raises(LsbuildError, match="far_away:TARGET cannot be loaded"):
        registry.target("moon")
