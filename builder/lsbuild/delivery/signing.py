"""Keys that updates are signed with: made, kept in a file that only its owner can read, used; Ed25519 by ``cryptography``."""

from __future__ import annotations

import os
from pathlib import Path

from lsbuild.errors import TargetError
from lsbuild_runtime.updates import format as formats
from lsbuild_runtime.updates import keys

PASSPHRASE = "LSBUILD_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable
"""Variable with the passphrase of a key, where nobody is there to be asked."""


class SigningKey:
    """A private key. ``public`` is the text that devices are given."""

    def __init__(self, raw: object) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if not isinstance(raw, Ed25519PrivateKey):
            raise TargetError("is not an Ed25519 key", hint="make one with `lsbuild key new FILE`")
        self._key = raw
        self._public = raw.public_key().public_bytes_raw()
        self.public = keys.to_text(self._public)
        self.id = keys.key_id(self._public)

    def envelope(self, payload: bytes) -> bytes:
        """``payload`` signed, as a DSSE envelope."""
        return formats.wrap(payload, [(self.id, self._key.sign(formats.signed_bytes(payload)))])


def new(path: Path, passphrase: str) -> SigningKey:
    """Make a key, write it to ``path`` (0600) and its public half to ``path``.pub. Raises TargetError when one is there."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = Ed25519PrivateKey.generate()
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    text = raw.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    public = path.with_name(f"{path.name}.pub")
    made = SigningKey(raw)
    for place, content, mode in ((path, text, 0o600), (public, f"{made.public}\n".encode(), 0o644)):
        try:
            # Never over another key: what it signed could not be followed by anything.
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
        except FileExistsError:
            raise TargetError(
                "there is a file already", where=str(place), hint="name another, or move it away"
            ) from None
        except OSError as error:
            raise TargetError(f"cannot be written: {error.strerror}", where=str(place)) from error
    return made


def load(path: Path, passphrase: str) -> SigningKey:
    """Read a private key. Raises TargetError for one that is not there, is locked, or is of another kind."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TargetError(
            f"cannot be read: {error.strerror}", where=where, hint="make one with `lsbuild key new FILE`"
        ) from error
    if data.strip().startswith(keys.PREFIX.encode()):
        raise TargetError(
            "is a public key; the private one signs", where=where, hint=f"name {where.removesuffix('.pub')}"
        )
    try:
        return SigningKey(load_pem_private_key(data, passphrase.encode() or None))
    except TargetError as error:
        raise TargetError(error.what, where=where, hint=error.hint) from error
    except TypeError:
        what = "has no passphrase" if passphrase else "has a passphrase"
        hint = (
            f"leave it out, or unset {PASSPHRASE}"
            if passphrase
            else f"set {PASSPHRASE}, or use --passphrase to be asked"
        )
        raise TargetError(what, where=where, hint=hint) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TargetError("is no private key, or its passphrase is another", where=where) from error


def read_public(text: str) -> str:
    """A public key, given as text or as the file that holds it; its canonical text. Raises TargetError."""
    found = text
    if not text.startswith(keys.PREFIX):
        try:
            found = Path(text).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise TargetError(
                f"cannot be read: {error.strerror}", where=text, hint="name FILE.pub of the key"
            ) from error
    try:
        return keys.to_text(keys.parse(found))
    except keys.KeyTextError as error:
        raise TargetError(str(error), where="" if found is text else text) from error
