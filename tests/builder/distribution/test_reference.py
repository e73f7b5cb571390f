"""Names of images in registries, and where the login for one is found."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from lsbuild.distribution import credentials
from lsbuild.distribution.credentials import Login
from lsbuild.distribution.errors import DistributionError
from lsbuild.distribution.reference import Reference, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("registry.example/team/assistant:1.0", Reference("registry.example", "team/assistant", "1.0")),
        ("127.0.0.1:5000/a", Reference("127.0.0.1:5000", "a")),
        ("[::1]:5000/a:x", Reference("[::1]:5000", "a", "x")),
        ("localhost/a", Reference("localhost", "a")),
        (f"r.example/a/b__c@{DIGEST}", Reference("r.example", "a/b__c", "", DIGEST)),
        (f"r.example/a:1@{DIGEST}", Reference("r.example", "a", "1", DIGEST)),
        ("docker.io/alpine:3", Reference("docker.io", "library/alpine", "3")),
    ],
)
def test_a_reference_is_read_and_written_again(text: str, found: Reference) -> None:
    assert parse(text) == found
    assert str(found).replace("library/", "") == text
    assert found.server == ("registry-1.docker.io" if found.host == "docker.io" else found.host)


@pytest.mark.parametrize(
    "text",
    [
        "", "assistant", "assistant:1", "team/assistant:1", "r.example/", "r.example/A", "r.example/a:", "r.example/a@",
        "r.example/a@sha256:abc", "r.example/a//b", "https://r.example/a", "r.example/a:b:c", "r_x.example/a", "-r.example/a",
        "r.example/a b",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(DistributionError):
        parse(text)


def _config(folder: Path, value: object, name: str = ".docker/config.json") -> dict[str, str]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return {"HOME": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}


def _auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_login_is_read_from_the_files_of_docker_and_podman(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"auths": {"r.example": _auth("ann", "a:b")}})
    _config(tmp_path, {"auths": {"p.example:5000": _auth("bob", "pw")}}, ".config/containers/auth.json")
    assert credentials.find("r.example", environ) == Login("ann", "a:b")
    assert credentials.find("p.example:5000", environ) == Login("bob", "pw")
    assert credentials.find("other.example", environ) is None
    assert credentials.find("r.example", {}) is None
    moved = {**environ, "DOCKER_CONFIG": str(tmp_path / "nothing")}
    assert credentials.find("r.example", moved) is None


def test_the_variable_goes_before_the_files(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"auths": {"r.example": _auth("ann", "pw")}})
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"https://r.example": _auth("ci", "token")}})
    assert credentials.find("r.example", environ) == Login("ci", "token")


def test_docker_hub_has_an_old_name(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"auths": {"https://index.docker.io/v1/": _auth("ann", "pw")}})
    assert credentials.find("docker.io", environ) == Login("ann", "pw")


def test_an_identity_token_is_no_password(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"auths": {"r.example": {**_auth("<token>", ""), "identitytoken": "abc"}}})
    assert credentials.find("r.example", environ) == Login("<token>", "", "abc")


def _helper(folder: Path, script: str, name: str = "docker-credential-tests") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_helpers_are_asked_as_docker_asks_them(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"credsStore": "tests", "auths": {"https://r.example/v1/": {}}})
    _helper(tmp_path, f'[ "$1" = get ] && cat > {tmp_path}/key && echo \'{{"Username": "ann", "Secret": "pw"}}\'')
    assert credentials.find("r.example", environ) == Login("ann", "pw")
    assert (tmp_path / "key").read_text() == "https://r.example/v1/"
    _helper(tmp_path, 'echo \'{"Username": "<token>", "Secret": "abc"}\'', "docker-credential-own")
    environ = _config(tmp_path, {"credsStore": "tests", "credHelpers": {"e.example": "own"}})
    assert credentials.find("e.example", environ) == Login("<token>", "", "abc")


def test_a_helper_that_knows_nothing_is_no_error_and_one_that_fails_is(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"credHelpers": {"r.example": "tests"}})
    _helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert credentials.find("r.example", environ) is None
    _helper(tmp_path, "echo the keychain is locked >&2; exit 1")
    with pytest.raises(DistributionError, match="keychain is locked"):
        credentials.find("r.example", environ)
    _helper(tmp_path, "echo nonsense")
    with pytest.raises(DistributionError, match="no login"):
        credentials.find("r.example", environ)


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path) -> None:
    environ = _config(tmp_path, {"credHelpers": {"r.example": "absent"}})
    with pytest.raises(DistributionError, match="docker-credential-absent"):
        credentials.find("r.example", environ)
    # A store of all logins that was never used for this registry does not stand in the way of an open one.
    assert credentials.find("r.example", _config(tmp_path, {"credsStore": "absent"})) is None


@pytest.mark.parametrize(
    "text", ["{", '{"auths": {"r.example": {"auth": "%%%"}}}', '{"auths": {"r.example": {"auth": "YWJj"}}}']
)
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    environ = _config(tmp_path, {})
    (tmp_path / ".docker/config.json").write_text(text)
    with pytest.raises(DistributionError, match=r"damaged|JSON") as caught:
        credentials.find("r.example", environ)
    assert caught.value.where.endswith("config.json")
    assert "YWJj" not in str(caught.value)


def test_no_login_is_shown() -> None:
    assert "pw" not in repr(Login("ann", "pw", "token"))
