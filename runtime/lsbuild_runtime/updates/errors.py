"""Why an update did not happen, each class with its exit code; nothing here prints."""

from __future__ import annotations


class UpdateError(Exception):
    """One sentence that says what, where and what to do."""

    code = 1


class NotReached(UpdateError):
    """Where the update comes from does not answer, or stopped in the middle; what was fetched is kept."""

    code = 3


class NotTrusted(UpdateError):
    """Not signed by a key that this device trusts, or not what was signed: changed, truncated, damaged."""

    code = 4


class DoesNotFit(UpdateError):
    """Signed and whole, but not for this device: another product or platform, or not newer."""

    code = 5


class NoRoom(UpdateError):
    """The disk is full, or refuses."""

    code = 6


class RolledBack(UpdateError):
    """The new version did not pass its trial; the one before serves."""

    code = 7


class Unusable(UpdateError):
    """The updater cannot work: another one is working, no key or address is set, its state is damaged."""

    code = 8
