"""Signatures and keys: the vectors of RFC 8032, and all that must not be taken for a signature."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from lsbuild.delivery import signing
from lsbuild.errors import TargetError
from lsbuild_runtime.updates import keys, signature
from lsbuild_runtime.updates.errors import Unusable

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
"""Prime of the field and order of the group, RFC 8032 section 5.1."""
D = -121665 * pow(121666, P - 2, P) % P
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
"""Secret, public key, message, signature: tests 1 to 3 of RFC 8032 section 7.1."""


@pytest.mark.parametrize(("secret", "public", "message", "signed"), VECTORS)
def test_the_vectors_of_rfc_8032(secret: str, public: str, message: str, signed: str) -> None:
    key, text, value = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signed)
    assert signature.is_valid(key, text, value)
    assert not signature.is_valid(key, text + b"\0", value)
    for bit in range(0, 512, 7):
        changed = bytearray(value)
        changed[bit // 8] ^= 1 << bit % 8
        assert not signature.is_valid(key, text, bytes(changed))


def test_a_signature_has_one_form() -> None:
    """Adding the order to S gives an equation that holds as well; who takes it lets others make new signatures of old ones."""
    _, public, message, signed = VECTORS[2]
    value = bytes.fromhex(signed)
    scalar = int.from_bytes(value[32:], "little")
    for factor in (1, 2, 3, 7):
        other = scalar + factor * L
        if other < 2**256:
            twin = value[:32] + other.to_bytes(32, "little")
            assert not signature.is_valid(bytes.fromhex(public), bytes.fromhex(message), twin)


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_none(length: int) -> None:
    _, public, message, _ = VECTORS[0]
    assert not signature.is_valid(bytes.fromhex(public), bytes.fromhex(message), bytes(length))
    assert not signature.is_valid(bytes.fromhex(public)[:31], bytes.fromhex(message), bytes(64))


def small_points() -> list[tuple[int, int]]:
    """The eight points whose eightfold is the neutral one, found by the curve's own arithmetic."""
    # Any point times L has an order that divides eight; one of order eight gives all of them.
    y = 2
    while True:
        y += 1
        point = _times(L, found) if (found := _point(y)) else None
        if point and _times(4, point) != (0, 1):
            break
    points = [(0, 1)]
    for _ in range(7):
        points.append(_add(points[-1], point))
    assert len(set(points)) == 8
    return points


def _point(y: int) -> tuple[int, int] | None:
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if (x * x - square) % P == 0 else None


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (a, b), (c, d) = one, other
    product = D * a * b * c * d % P
    return (
        (a * d + b * c) * pow(1 + product, P - 2, P) % P,
        (b * d + a * c) * pow(1 - product, P - 2, P) % P,
    )


def _times(number: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while number:
        if number & 1:
            result = _add(result, point)
        point, number = _add(point, point), number >> 1
    return result


def encodings() -> list[bytes]:
    """Every 32 bytes that decode to such a point, those that RFC 8032 does not allow as well."""
    found = []
    for _, y in small_points():
        for value in {y, y + P}:
            if value < 2**255:
                found += [(value | sign << 255).to_bytes(32, "little") for sign in (0, 1)]
    return sorted(set(found))


def test_no_key_of_small_order_is_trusted() -> None:
    """For the neutral point as the key R = S·B fits every message: nobody needs a secret."""
    assert len(encodings()) >= 14
    for raw in encodings():
        with pytest.raises(keys.KeyTextError, match="small order"):
            keys.parse(keys.to_text(raw))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with"),
        ("ssh-ed25519 AAAA", "begins with"),
        ("ed25519:", "0 bytes"),
        ("ed25519:????", "not a public key"),
        (f"ed25519:{base64.b64encode(bytes(31)).decode()}", "31 bytes"),
    ],
)
def test_what_is_no_key_is_told(text: str, why: str) -> None:
    with pytest.raises(keys.KeyTextError, match=why):
        keys.parse(text)


def test_a_machine_without_libcrypto_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "LIBRARY", "libnothing.so.0")
    signature._crypto.cache_clear()
    try:
        with pytest.raises(Unusable, match="libssl3"):
            signature.is_valid(bytes(32), b"", bytes(64))
    finally:
        signature._crypto.cache_clear()


def test_a_key_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    made = signing.new(tmp_path / "k", "")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "k.pub").read_text().strip() == made.public
    assert signing.load(tmp_path / "k", "").public == made.public
    assert signing.read_public(str(tmp_path / "k.pub")) == signing.read_public(made.public) == made.public
    with pytest.raises(TargetError, match="there is a file already"):
        signing.new(tmp_path / "k", "")


def test_a_passphrase_locks_the_key(tmp_path: Path) -> None:
    made = signing.new(tmp_path / "k", "correct horse")
    assert signing.load(tmp_path / "k", "correct horse").public == made.public
    with pytest.raises(TargetError, match="has a passphrase"):
        signing.load(tmp_path / "k", "")
    with pytest.raises(TargetError, match="passphrase is another"):
        signing.load(tmp_path / "k", "wrong")


def test_what_is_no_signing_key_is_told(tmp_path: Path) -> None:
    made = signing.new(tmp_path / "k", "")
    with pytest.raises(TargetError, match="is a public key"):
        signing.load(tmp_path / "k.pub", "")
    with pytest.raises(TargetError, match="cannot be read"):
        signing.load(tmp_path / "nothing", "")
    (tmp_path / "text").write_text(hashlib.sha256(made.public.encode()).hexdigest())
    with pytest.raises(TargetError, match="no private key"):
        signing.load(tmp_path / "text", "")
    with pytest.raises(TargetError, match="has no passphrase"):
        signing.load(tmp_path / "k", "something")
