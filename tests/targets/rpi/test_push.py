"""Installing over a real ssh; uname, systemctl and journalctl of the board are scripts, its dpkg is real, in its own root."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lsbuild.delivery import pushing
from lsbuild.delivery.remote import Remote
from lsbuild.errors import TargetError
from ssh_server import SshServer, ssh_server

MakePi = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    (tmp_path / "ssh").mkdir()
    with ssh_server(tmp_path / "ssh") as found:
        yield found


@pytest.fixture
def board(server: SshServer, tmp_path: Path) -> SshServer:
    """A server that says it is a Pi with Debian 13."""
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not installed")
    root = tmp_path / "board"
    for name in ("info", "updates"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    server.program("uname", "echo aarch64")
    server.program("python3.13", "exit 0")
    server.program("sudo", 'shift; exec "$@"')
    force = "--force-architecture,depends,not-root,script-chrootless"
    install = f'for last; do :; done\nexec dpkg --root={root} {force} --log={tmp_path}/log --install "$last"'
    server.program("apt-get", f'echo "$@" > {tmp_path}/asked\n{install}')
    server.program("systemctl", f'echo "$@" >> {tmp_path}/systemctl')
    server.program("journalctl", "echo one line of the log")
    return server


def remote(server: SshServer) -> Remote:
    return Remote(server.host, server.options)


def test_the_package_is_copied_installed_and_asked_whether_it_runs(
    board: SshServer, make_pi: MakePi, tmp_path: Path
) -> None:
    said: list[str] = []
    done = pushing.push(make_pi(tmp_path / "out"), remote(board), said.append)
    assert done.unit == "lsbuild-small"
    assert (tmp_path / "board/usr/lib/lsbuild-small/manifest.json").is_file()
    asked = (tmp_path / "asked").read_text()
    assert "--allow-downgrades" in asked
    assert (tmp_path / "systemctl").read_text() == "is-active --quiet lsbuild-small\n"
    assert not Path(asked.split()[-1]).parent.exists(), "the copy stays behind"
    assert [line.partition(": ")[2].split()[0] for line in said] == ["copying", "installing"]


def test_the_log_is_followed_line_by_line(board: SshServer) -> None:
    lines: list[str] = []
    assert remote(board).follow(("journalctl", "-f"), lines.append) == 0
    assert lines == ["one line of the log"]


def test_a_unit_that_does_not_run_is_told_with_its_log(board: SshServer, make_pi: MakePi, tmp_path: Path) -> None:
    board.program("systemctl", "exit 3")
    with pytest.raises(TargetError, match="lsbuild-small was installed and does not run") as failed:
        pushing.push(make_pi(tmp_path / "out"), remote(board), print)
    assert failed.value.hint == "one line of the log"


@pytest.mark.parametrize(
    ("program", "text", "message"),
    [
        ("uname", "echo armv7l", "this machine is armv7l, the package is for aarch64"),
        ("apt-get", "echo 'E: held broken packages' >&2; exit 100", "E: held broken packages"),
        ("sha256sum", "echo 0000 x", "the copy differs"),
    ],
)
def test_what_the_board_refuses_is_one_clear_error(
    board: SshServer, make_pi: MakePi, tmp_path: Path, program: str, text: str, message: str
) -> None:
    board.program(program, text)
    with pytest.raises(TargetError, match=message):
        pushing.push(make_pi(tmp_path / "out"), remote(board), print)
    assert not (tmp_path / "board/usr").exists()


def test_another_python_is_refused_before_anything_is_copied(board: SshServer, make_pi: MakePi, tmp_path: Path) -> None:
    out = make_pi(tmp_path / "out")
    record = out / "artifact.json"
    record.write_text(record.read_text().replace('"python": "3.13"', '"python": "3.99"'))  # which no machine has
    with pytest.raises(TargetError, match=r"has no Python 3\.99") as refused:
        pushing.push(out, remote(board), print)
    assert "base.suite" in refused.value.hint
    assert not (tmp_path / "asked").exists()


def test_a_machine_that_is_not_reached_is_told_in_sshs_words(
    server: SshServer, make_pi: MakePi, tmp_path: Path
) -> None:
    stranger = Remote(server.host, (*server.options[:1], f"IdentityFile={tmp_path}/none", *server.options[2:]))
    with pytest.raises(TargetError, match=r"(?s)not reached: .*Permission denied"):
        pushing.push(make_pi(tmp_path / "out"), stranger, print)


@pytest.mark.parametrize("host", ["", "-oProxyCommand=evil", "a b", "a;b", "user@"])
def test_a_host_that_is_none_is_refused_without_ssh(host: str) -> None:
    with pytest.raises(TargetError, match="is not the name of a machine"):
        Remote(host).run(("true",))


def test_an_artifact_without_a_deb_says_what_to_set(board: SshServer, make_pi: MakePi, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"has no \.deb") as refused:
        pushing.push(make_pi(tmp_path / "out", package="tar"), remote(board), print)
    assert "targets.rpi.package" in refused.value.hint
