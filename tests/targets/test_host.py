"""The host target: what it writes, what it refuses to replace, and how ``run`` behaves."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from lsbuild.api import Bundle, Check, File, Platform, TargetError
from lsbuild.packing.archive import tree_sha256
from lsbuild.packing.boot import running
from lsbuild_targets.host import TARGET, Options

MakeBundle = Callable[..., Bundle]


def pack(bundle: Bundle, out: Path) -> Path:
    return TARGET.pack((bundle,), Options(), out).path


def ask(base_url: str) -> Iterator[Check]:
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.request("GET", "/")
    body = connection.getresponse().read().decode()
    connection.close()
    yield Check("ask", "'app'" not in body and ", 1, " in body, body)


def environment(**more: str) -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **more}


def test_options_default_to_this_machine(here: Platform) -> None:
    assert TARGET.platforms(Options()) == (here,)


def test_docker_names_of_architectures_are_understood() -> None:
    assert TARGET.platforms(Options.model_validate({"arch": "arm64"}))[0].arch == "aarch64"


def test_32_bit_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="armv7l has 32 bits"):
        Options.model_validate({"arch": "armv7l"})


@pytest.mark.parametrize("python", ["2.7", "3.9", "3", "3.15", "3.11.7"])
def test_a_python_without_wheels_is_refused(python: str) -> None:
    with pytest.raises(ValidationError):
        Options(python=python)


def test_an_artifact_holds_every_file_and_an_executable_run(tmp_path: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    out = pack(bundle, tmp_path / "art")
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {file.path for file in bundle.files} | {"run"}
    assert (out / "run").stat().st_mode & 0o777 == 0o755
    assert (out / "manifest.json").stat().st_mode & 0o777 == 0o644


def test_two_packs_are_identical_whatever_the_umask(
    tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    one = TARGET.pack((make_bundle(),), Options(), tmp_path / "one")
    before = os.umask(0o077)
    try:
        two = TARGET.pack((make_bundle(),), Options(), tmp_path / "deep" / "two")
    finally:
        os.umask(before)
    assert one.sha256 == two.sha256
    assert one.size == two.size
    times = {path.stat().st_mtime for root in (one.path, two.path) for path in (root, *root.rglob("*"))}
    assert times == {1700000000.0}


def test_files_are_independent_of_where_they_came_from(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(), tmp_path / "art")
    (tmp_path / "model.bin").write_bytes(b"changed")
    assert (out / "models/chat/model.bin").stat().st_size == 256 * 64
    assert (out / "models/chat/model.bin").stat().st_nlink == 1


def test_an_artifact_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(extra=(File("models/old.bin", b"old"),)), tmp_path / "art")
    pack(make_bundle(), out)
    assert not (out / "models/old.bin").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["art", "model.bin"]


def test_a_foreign_folder_is_not_replaced(tmp_path: Path, make_bundle: MakeBundle) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("keep me")
    with pytest.raises(TargetError, match="not an artifact of lsbuild"):
        pack(make_bundle(), tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "keep me"


def test_a_file_or_a_link_is_not_replaced(tmp_path: Path, make_bundle: MakeBundle) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(TargetError, match="there is a file"):
            pack(make_bundle(), tmp_path / name)


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path, make_bundle: MakeBundle) -> None:
    (tmp_path / ".art.partial" / "models").mkdir(parents=True)
    (tmp_path / ".art.partial" / "models" / "half").write_bytes(b"half")
    out = pack(make_bundle(), tmp_path / "art")
    assert not (out / "models" / "half").exists()
    assert not (tmp_path / ".art.partial").exists()


def test_a_failing_pack_leaves_the_old_artifact(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(), tmp_path / "art")
    before = tree_sha256(out)
    broken = make_bundle()
    lost = Bundle(broken.platform, broken.manifest, (*broken.files, File("models/gone.bin", tmp_path / "no-such-file")))
    with pytest.raises(Exception, match="No such file"):
        pack(lost, out)
    assert tree_sha256(out) == before
    assert not (tmp_path / ".art.partial").exists()


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "./a", "run", "models/chat/model.bin/x"])
def test_paths_that_leave_or_clash_are_refused(tmp_path: Path, make_bundle: MakeBundle, path: str) -> None:
    with pytest.raises(TargetError):
        pack(make_bundle(extra=(File(path, b"x"),)), tmp_path / "art")
    assert not (tmp_path / "art").exists()


def test_its_manifests_are_found_and_only_its(tmp_path: Path, make_bundle: MakeBundle) -> None:
    assert [manifest.name for manifest in TARGET.manifests(pack(make_bundle(), tmp_path / "art"))] == ["small"]
    assert TARGET.manifests(tmp_path) == ()


def test_verify_boots_asks_and_stops(tmp_path: Path, make_bundle: MakeBundle) -> None:
    checks = list(TARGET.verify(pack(make_bundle(), tmp_path / "art"), ask))
    assert [check.name for check in checks] == ["files", "boot", "ask", "stop", "unchanged"]
    assert all(check.ok for check in checks), checks


def test_verify_scrubs_the_environment(
    tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_MINE", "x")
    checks = {check.name: check for check in TARGET.verify(pack(make_bundle(), tmp_path / "art"), ask)}
    assert "A_SECRET_OF_MINE" not in checks["ask"].detail


def test_verify_finds_a_changed_file(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(), tmp_path / "art")
    data = bytearray((out / "models/chat/model.bin").read_bytes())
    data[100] ^= 1
    (out / "models/chat/model.bin").write_bytes(bytes(data))
    (check,) = TARGET.verify(out, ask)
    assert not check.ok
    assert "models/chat/model.bin" in check.detail


def test_verify_finds_an_added_file(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(), tmp_path / "art")
    (out / "app" / "extra.py").write_text("x")
    (check,) = TARGET.verify(out, ask)
    assert not check.ok
    assert "app/extra.py" in check.detail


def test_verify_reports_a_server_that_dies(tmp_path: Path, make_bundle: MakeBundle) -> None:
    dying = make_bundle(main=b"def main(argv):\n    raise SystemExit('no model memory')\n")
    checks = list(TARGET.verify(pack(dying, tmp_path / "art"), ask))
    assert [(check.name, check.ok) for check in checks][:2] == [("files", True), ("boot", False)]
    assert "no model memory" in checks[1].detail


def test_verify_notices_a_server_that_writes_into_its_folder(tmp_path: Path, make_bundle: MakeBundle) -> None:
    source = make_bundle().files[2]
    assert isinstance(source.content, bytes)
    writing = source.content.replace(b"    print(", b"    open(options.root + '/app/log', 'w').close()\n    print(")
    assert writing != source.content
    checks = list(TARGET.verify(pack(make_bundle(main=writing), tmp_path / "art"), ask))
    assert checks[-1].name == "unchanged"
    assert not checks[-1].ok


def test_verify_skips_the_boot_of_another_architecture_and_says_so(tmp_path: Path, make_bundle: MakeBundle) -> None:
    other = Platform(arch="riscv64", python="3.11")
    checks = list(TARGET.verify(pack(make_bundle(other), tmp_path / "art"), ask))
    assert [(check.name, check.state) for check in checks] == [("files", "proved"), ("boot", "skipped")]


def test_run_works_through_a_link_from_anywhere_and_with_spaces(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(), tmp_path / "my own $artifacts" / "it's here")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "assistant").symlink_to(out / "run")
    command = (tmp_path / "bin" / "assistant", "--port", "0")
    with running(command, Path("/"), environment()) as started:
        started.wait(30)
        (check,) = ask(started.base_url)
        assert str(out / "site") in check.detail.replace('"', "'").replace("\\'", "'")
        assert started.stop() == 0


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox"])
def test_run_is_plain_posix_shell(tmp_path: Path, make_bundle: MakeBundle, shell: str) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    out = pack(make_bundle(main=b"def main(argv):\n    print(argv[2:])\n    return 7\n"), tmp_path / "art")
    command = [found, *(["sh"] if shell == "busybox" else []), "run", "--port", "a b", "*"]
    done = subprocess.run(command, cwd=out, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "['--port', 'a b', '*']\n"), done.stderr


def test_run_names_the_python_it_needs(tmp_path: Path, make_bundle: MakeBundle, here: Platform) -> None:
    other = "3.12" if here.python != "3.12" else "3.13"
    out = pack(make_bundle(Platform(arch=here.arch, python=other)), tmp_path / "art")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "readlink", "uname"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    (tools / f"python{other}").symlink_to(sys.executable)
    done = subprocess.run([out / "run"], env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert done.stderr.startswith(f"run: needs Python {other} ({here.arch})")
    assert done.stderr.count("\n") == 1


def test_run_takes_the_python_it_is_told(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(main=b"def main(argv):\n    return 3\n"), tmp_path / "art")
    done = subprocess.run([out / "run"], env={"PATH": "/usr/bin:/bin", "LSBUILD_PYTHON": sys.executable}, check=False)
    assert done.returncode == 3


def test_run_refuses_another_machine(tmp_path: Path, make_bundle: MakeBundle) -> None:
    out = pack(make_bundle(Platform(arch="riscv64", python="3.11")), tmp_path / "art")
    done = subprocess.run([out / "run"], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert "this artifact is for riscv64" in done.stderr
