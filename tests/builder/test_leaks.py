"""What looks like a secret is found with its place and refused; what is marked, public or only alike is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsbuild import leaks
from lsbuild.api import Bundle, File, Manifest, Platform
from lsbuild.errors import GateError
from lsbuild_runtime.manifest import Server

# Put together here, so that no scanner of this repository's own finds them.
AWS = "AKIA" + "Q3EGRI7KX5WY2TNB"
GITHUB = "ghp" + "_" + "x7Kd9QmR2vLp4Wz8Tn6Yb3Hc5Jf1Gs0AeUiO"
KEY = "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n"
OPENAI = "sk-" + "proj-" + "a8Fk2Lq9Zx7Cv5Bn3Mw1Er4Ty6"


def found(*files: File) -> list[leaks.Leak]:
    return list(leaks.scan(files))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (AWS, "an access key of AWS"),
        (GITHUB, "a token of GitHub"),
        (KEY, "a private key"),
        (KEY.replace("\n", "\\n"), "a private key"),
        (OPENAI, "an API key"),
        ("hf" + "_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH", "a token of Hugging Face"),
    ],
)
def test_tokens_are_known_by_their_form_and_named_with_their_line(text: str, kind: str) -> None:
    (leak,) = found(File("app/settings.py", f"first = 1\nkey = '{text}'\n".encode()))
    assert (leak.where, leak.kind) == ("app/settings.py:2", kind)
    assert text not in leak.shown
    assert len(leak.fingerprint) == 12


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",  # as in AWS's documentation
        "MAKIA" + AWS[4:],
        "sk-learn-is-a-word-that-goes-on-and-on",
        "[A-Z2-7]{16} after AKIA",
        "-----BEGIN PRIVATE KEY----- is how it begins",
        "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "hf_transfer_is_a_package",
    ],
)
def test_what_is_only_alike_is_no_secret(text: str) -> None:
    assert found(File("app/a.txt", text.encode())) == []


def test_a_binary_file_is_read_too_and_an_empty_one_is_no_trouble(tmp_path: Path) -> None:
    index = tmp_path / "index.db"
    index.write_bytes(bytes(100) + AWS.encode() + bytes(10))
    (tmp_path / "empty").write_bytes(b"")
    (leak,) = found(File("indexes/docs/index.db", index, part="index"), File("app/empty", tmp_path / "empty"))
    assert leak.where == "indexes/docs/index.db, byte 100"


def test_wheels_and_bytecode_are_not_read() -> None:
    assert found(File("site/x.py", AWS.encode(), part="wheels"), File("app/x.pyc", AWS.encode())) == []


def test_a_password_in_a_url_of_the_manifest_is_one() -> None:
    text = b'{"config": {"dsn": "postgresql://app:hunter22@db.example/x", "url": "postgresql://app:${env.PW}@db/x"}}'
    (leak,) = found(File("manifest.json", text))
    assert leak.kind == "a password in a URL"
    assert found(File("app/readme.md", text)) == []


def bundle(*files: File) -> Bundle:
    manifest = Manifest(
        schema=1, name="n", lsbuild="0", target="host", platform="p", services=(), server=Server(), files=()
    )
    return Bundle(Platform("x86_64", "3.13"), manifest, files)


def test_a_build_is_refused_until_it_is_marked() -> None:
    file = File("app/a.txt", AWS.encode())
    with pytest.raises(GateError, match=r"app/a\.txt:1: an access key of AWS, AKIAQ3…, fingerprint") as refused:
        leaks.check(bundle(file), ())
    (leak,) = found(file)
    assert leak.fingerprint in str(refused.value)
    leaks.check(bundle(file), (leak.fingerprint,))
