"""Images pushed to a real registry: open, with passwords, with tokens, and over a line that breaks."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_registry import IDENTITY, PASSWORD, USER, BadLine, certificate, registry, token_server, with_passwords
from lsbuild.delivery import pushing
from lsbuild.distribution import repository as repositories
from lsbuild.distribution.client import Client, Host
from lsbuild.distribution.credentials import Login
from lsbuild.distribution.errors import DistributionError
from lsbuild.distribution.known import Known
from lsbuild.distribution.push import Pushed, check, push
from lsbuild.distribution.reference import parse
from lsbuild.distribution.repository import Repository
from lsbuild.errors import TargetError, VerifyError
from lsbuild.packing.archive import Member
from lsbuild.packing.oci import Layout, Settings
from lsbuild.packing.oci_read import published

ANN = Login(USER, PASSWORD)
SETTINGS = Settings(entrypoint=("/run",), user="7:7", port=80)


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout")


def make_layout(root: Path, size: int = 300_000, arches: tuple[str, ...] = ("amd64", "arm64")) -> Path:
    """A layout of layers that no compression makes small."""
    made = Layout(root, 0)
    found = []
    for number, arch in enumerate(arches):
        noise = random.Random(number + size).randbytes(size)
        layers = [made.layer([Member("weights", noise)], "models"), made.layer([Member("arch", arch.encode())], "code")]
        found.append(made.image(arch, layers, SETTINGS))
    made.index(found, "small:1.0")
    return root


@pytest.fixture
def send(tmp_path: Path) -> Callable[..., Pushed]:
    def sent(layout: Path, to: str, login: Login | None = None, said: list[str] | None = None) -> Pushed:
        named = parse(to)
        waits: list[float] = []
        host = Host(named.host, login, wait=waits.append)
        lines = said if said is not None else []
        return push(layout, named, host, Known(tmp_path / "cache", named.host), lines.append)

    return sent


Send = Callable[..., Pushed]


def test_the_index_is_there_by_its_digest_and_by_its_tag(open_registry: str, layout: Path, send: Send) -> None:
    done = send(layout, f"{open_registry}/team/small:2.0")
    assert done.image == f"{open_registry}/team/small@{published(layout).top.digest}"
    assert done.sent > 600_000
    with Client(Host(open_registry)) as client:
        there = Repository(client, "team/small", "pull")
        assert check(there, "2.0", done.digest) == 6
        found = there.manifest(done.digest)
        assert found is not None
        assert found[1] == (layout / "blobs" / done.digest.replace(":", "/")).read_bytes()


def test_what_is_there_is_not_sent_again_and_another_repository_mounts_it(
    open_registry: str, tmp_path: Path, send: Send
) -> None:
    layout = make_layout(tmp_path / "own", 100_001)
    first = send(layout, f"{open_registry}/mount/one:1")
    again = send(layout, f"{open_registry}/mount/one:2")
    said: list[str] = []
    other = send(layout, f"{open_registry}/mount/two:1", None, said)
    assert (first.there, first.mounted) == (0, 0)
    assert (again.sent, again.there) == (0, first.sent)
    assert (other.sent, other.mounted) == (0, first.sent)
    assert any("mounted from mount/one" in line for line in said)


def test_a_wrong_memory_costs_nothing_but_a_question(open_registry: str, tmp_path: Path, send: Send) -> None:
    layout = make_layout(tmp_path / "own", 100_002)
    digests = [blob.digest for blob in published(layout).blobs]
    Known(tmp_path / "cache", open_registry).remember(digests, "nobody/there")
    assert send(layout, f"{open_registry}/mount/three:1").sent > 0


def test_without_a_tag_the_image_s_own_is_taken(open_registry: str, layout: Path, send: Send) -> None:
    assert send(layout, f"{open_registry}/team/untagged").tag == "1.0"


def test_one_platform_needs_no_index(open_registry: str, tmp_path: Path, send: Send) -> None:
    layout = make_layout(tmp_path / "one", 1000, ("arm64",))
    done = send(layout, f"{open_registry}/team/arm:1")
    with Client(Host(open_registry)) as client:
        found = Repository(client, "team/arm", "pull").manifest("1")
    assert found is not None
    assert done.digest == found[0].digest == published(layout).manifests[0].digest
    assert "layers" in json.loads(found[1])


def test_another_digest_than_the_image_s_is_refused(open_registry: str, layout: Path, send: Send) -> None:
    with pytest.raises(DistributionError, match="push it to a tag"):
        send(layout, f"{open_registry}/team/small@sha256:{'0' * 64}")


def test_a_damaged_layer_never_becomes_the_tag(open_registry: str, layout: Path, send: Send) -> None:
    victim = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[100] ^= 1
    victim.write_bytes(data)
    with pytest.raises(VerifyError, match="does not have the content it is named after"):
        send(layout, f"{open_registry}/team/damaged:1")
    with Client(Host(open_registry)) as client:
        assert Repository(client, "team/damaged", "pull").manifest("1") is None


def test_a_line_that_breaks_costs_pieces_not_the_push(
    open_registry: str, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "PIECE", 4 << 20)
    layout = make_layout(tmp_path / "large", 9 << 20, ("amd64",))
    line = BadLine(open_registry, cuts=3, after=2 << 20)
    with line as host:
        done = send(layout, f"{host}/team/cut:1")
    assert line.cut == 3
    with Client(Host(open_registry)) as client:
        assert check(Repository(client, "team/cut", "pull"), "1", done.digest) == 3


def test_a_line_that_always_breaks_is_an_error_and_no_tag(
    open_registry: str, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "PIECE", 1 << 20)
    layout = make_layout(tmp_path / "large", 5 << 20, ("amd64",))
    with (
        BadLine(open_registry, cuts=10_000, after=300_000) as host,
        pytest.raises(DistributionError, match="did not arrive"),
    ):
        send(layout, f"{host}/team/never:1")
    with Client(Host(open_registry)) as client:
        assert Repository(client, "team/never", "pull").manifest("1") is None


def test_a_blob_is_fetched_over_a_line_that_breaks(open_registry: str, tmp_path: Path, send: Send) -> None:
    layout = make_layout(tmp_path / "large", 5 << 20, ("amd64",))
    send(layout, f"{open_registry}/team/fetched:1")
    blob = max(published(layout).blobs, key=lambda each: each.size)
    line = BadLine(open_registry, cuts=2, after=1 << 20)
    with line as host, Client(Host(host, wait=lambda _: None)) as client, (tmp_path / "got").open("w+b") as sink:
        Repository(client, "team/fetched", "pull").get_blob(blob, sink, lambda _: None)
    assert line.cut == 2
    assert f"sha256:{hashlib.sha256((tmp_path / 'got').read_bytes()).hexdigest()}" == blob.digest


def test_passwords(tmp_path: Path, layout: Path, send: Send) -> None:
    (tmp_path / "basic").mkdir()
    with registry(tmp_path / "basic", with_passwords(tmp_path / "basic")) as host:
        with pytest.raises(DistributionError, match="without a login") as caught:
            send(layout, f"{host}/team/small:1")
        assert "docker login" in caught.value.hint
        with pytest.raises(DistributionError, match=f"as {USER}"):
            send(layout, f"{host}/team/small:1", Login(USER, "wrong"))
        assert send(layout, f"{host}/team/small:1", ANN).sent


def test_tokens_for_what_is_done_and_nothing_else(tmp_path: Path, send: Send) -> None:
    layout = make_layout(tmp_path / "own", 100_003)
    with token_server(tmp_path) as tokens, registry(tmp_path / "bearer", tokens.auth) as host:
        with pytest.raises(DistributionError, match="without a login"):
            send(layout, f"{host}/team/small:1")
        with pytest.raises(DistributionError, match=r"no token from .*wrong password"):
            send(layout, f"{host}/team/small:1", Login(USER, "wrong"))
        done = send(layout, f"{host}/team/small:1", ANN)
        assert tokens.asked[-1]["scope"] == ["repository:team/small:pull,push"]
        assert send(layout, f"{host}/other/small:1", ANN).mounted == done.sent
        assert ["repository:other/small:pull,push", "repository:team/small:pull"] in [
            each["scope"] for each in tokens.asked
        ]
        named = Login("<token>", "", IDENTITY)
        assert send(layout, f"{host}/third/small:1", named).image.startswith(f"{host}/third/small@")
        assert tokens.asked[-1]["grant_type"] == ["refresh_token"]


def test_the_door_finds_the_login_where_docker_keeps_it(tmp_path: Path, layout: Path) -> None:
    (tmp_path / "basic").mkdir()
    (tmp_path / ".docker").mkdir()
    environ = {"HOME": str(tmp_path), "LSBUILD_CACHE": str(tmp_path / "cache")}
    with registry(tmp_path / "basic", with_passwords(tmp_path / "basic")) as host:
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        done = pushing.publish(layout, f"{host}/team/small", print, environ=environ)
        assert done.tag == "1.0"
        with pytest.raises(TargetError, match="names no registry"):
            pushing.publish(layout, "small:1", print, environ=environ)


def test_a_layout_that_is_damaged_is_refused_before_anything_is_sent(
    open_registry: str, layout: Path, send: Send
) -> None:
    shutil.rmtree(layout / "blobs")
    with pytest.raises(VerifyError, match="not a readable image layout"):
        send(layout, f"{open_registry}/team/small:1")


def test_a_registry_that_is_not_there_says_so(layout: Path, send: Send) -> None:
    with pytest.raises(DistributionError, match=r"127\.0\.0\.1:9 does not answer"):
        send(layout, "127.0.0.1:9/team/small:1")


def test_http_without_tls_is_for_this_machine_or_asked_for() -> None:
    names = ("localhost:5000", "[::1]:5000", "127.0.0.2", "registry.example:5000", "localhost.example")
    assert [Host(name).is_here for name in names] == [True, True, True, False, False]


def test_tls_with_a_certificate_of_one_s_own(
    tmp_path: Path, layout: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry(tmp_path / "tls", tls=certificate(tmp_path)) as host:
        with pytest.raises(DistributionError, match="certificate verify failed"):
            send(layout, f"{host}/team/small:1")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
        assert send(layout, f"{host}/team/small:1").sent
