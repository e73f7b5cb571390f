"""Says whether an update may be taken: signed by a key that is trusted, made for this device, newer than what it had."""

from __future__ import annotations

from lsbuild_runtime.updates import format as formats
from lsbuild_runtime.updates import keys, signature
from lsbuild_runtime.updates.errors import DoesNotFit, NotTrusted, Unusable
from lsbuild_runtime.updates.format import Update
from lsbuild_runtime.updates.place import Identity, Place, Settings
from lsbuild_runtime.updates.state import State, trusted

ATTEMPTS = 3
"""How often a trial that the device itself broke off is tried again by itself."""


def opened(envelope: bytes, trusted_keys: tuple[bytes, ...], where: str) -> tuple[Update, str]:
    """The update inside, and its digest; nothing is read of it before the signature was checked. Raises NotTrusted."""
    try:
        found = formats.unwrap(envelope)
    except formats.FormatError as error:
        raise NotTrusted(f"{where} is not an update: {error}") from error
    message = formats.signed_bytes(found.payload)
    # The id only says which key to try; what counts is the key that this device has.
    known = {keys.key_id(key): key for key in trusted_keys}
    signed = [(key, signature_) for name, signature_ in found.signatures if (key := known.get(name)) is not None]
    if not signed:
        names = ", ".join(name[:40] for name, _ in found.signatures[:4]) or "nobody"
        raise NotTrusted(f"{where} is signed by {names}; this device trusts {', '.join(known) or 'no key'}")
    if not any(signature.is_valid(key, message, value) for key, value in signed):
        raise NotTrusted(f"{where} was changed after it was signed: its signature does not fit")
    try:
        return formats.from_json(found.payload), formats.digest(found.payload)
    except formats.FormatError as error:
        raise DoesNotFit(f"{where} is signed, and this updater cannot read it: {error}") from error


def trusted_keys(place: Place, settings: Settings, state: State) -> tuple[bytes, ...]:
    """The keys that count now. Raises Unusable when there are none."""
    found = trusted(state, tuple(map(keys.to_text, settings.keys)), settings.digest)
    if not found:
        raise Unusable(
            f"no key is trusted; write the line that `lsbuild key new` prints into `keys` of {place.settings}"
        )
    return tuple(map(keys.parse, found))


def require_fit(update: Update, digest: str, identity: Identity, state: State) -> None:
    """Raise DoesNotFit unless ``update`` is for this device and not older than what it ever committed."""
    wanted = (update.product, update.target, update.platform)
    here = (identity.product, identity.target, identity.platform)
    if wanted != here:
        raise DoesNotFit(f"the update is for {' '.join(wanted)}, this device is {' '.join(here)}")
    highest = state.highest
    if update.version < highest.version or (update.version == highest.version and digest != highest.update):
        raise DoesNotFit(
            f"the update has version {update.version}, this device already had {highest.version}; "
            "older versions are not taken: make it again with a higher --version"
        )
    if state.committed.version < update.min_version:
        raise DoesNotFit(
            f"the update needs version {update.min_version} first, this device has {state.committed.version or 'no update'}"
        )


def require_untried(digest: str, state: State, interrupted: str) -> None:
    """Raise DoesNotFit for an update that failed its trial before; one that was broken off is tried ATTEMPTS times."""
    failure = state.failure
    if failure is None or failure.version.update != digest:
        return
    if failure.reason == interrupted and failure.times < ATTEMPTS:
        return
    raise DoesNotFit(
        f"version {failure.version.version} was tried before: {failure.reason}; mend it and sign a new version, or say --again"
    )
