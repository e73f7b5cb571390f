"""The course of an update: judged, fetched, built, tried, and kept or taken back; each stage leaves what the next needs.

At every moment the record names a version that is whole. What is on trial is never what the record falls back to.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple, Protocol

from lsbuild_runtime.updates import fetch, having, judge, place, room, slots, state
from lsbuild_runtime.updates.disk import Disk, explained, make_folders, replace
from lsbuild_runtime.updates.errors import RolledBack, Unusable
from lsbuild_runtime.updates.format import ENVELOPE, Update, missing
from lsbuild_runtime.updates.health import gate
from lsbuild_runtime.updates.place import Identity, Place, Settings
from lsbuild_runtime.updates.sources import Folder, Source
from lsbuild_runtime.updates.state import State, Version


class Service(Protocol):
    """The server on this device."""

    def restart(self) -> None:
        """Have it started again; what it starts is said by ``begin``. Raises Unusable."""
        ...


class Device(NamedTuple):
    """What the stages work with; a test gives another disk, another boot, another clock."""

    place: Place
    identity: Identity
    settings: Settings
    disk: Disk
    service: Service
    boot: str
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def state(self) -> State:
        """The record as it is now."""
        return state.load(self.place.state, self.identity.digest)

    def change(self, follow: Callable[[State], State]) -> State:
        """Replace the record by what follows from it; returns that."""
        with explained(self.place.root), _locked(self.place):
            new = follow(self.state())
            state.save(self.place.state, new, self.disk)
            return new


class Found(NamedTuple):
    """An update that may be taken; ``envelope`` is what it came in."""

    update: Update
    digest: str
    envelope: bytes


def check(device: Device, source: Source, *, again: bool = False) -> Found | None:
    """What ``source`` has for this device; None when it serves already. Raises NotReached, NotTrusted, DoesNotFit."""
    now = device.state()
    envelope = source.envelope()
    update, digest = judge.opened(envelope, judge.trusted_keys(device.place, device.settings, now), source.where)
    if now.committed.update == digest:
        return None
    judge.require_fit(update, digest, device.identity, now)
    if not again:
        judge.require_untried(digest, now, state.INTERRUPTED)
    return Found(update, digest, envelope)


def bring(device: Device, found: Found, source: Source, progress: fetch.Progress) -> having.Had:
    """Have every part on the device that it lacks; returns what it had. Raises NotReached, NotTrusted, NoRoom."""
    now, incoming = device.state(), device.place.incoming
    had = having.look(found.update, device.place.slot(now.committed.slot))
    parts = missing(found.update, had.files, had.pieces)
    with explained(device.place.root):
        room.require(
            found.update, parts, had, device.place.slot(now.free_slot), incoming, shared=bool(now.committed.slot)
        )
        make_folders(device.disk, incoming)
        fetch.tidy(parts, incoming, device.disk)
        replace(device.disk, incoming / ENVELOPE, found.envelope)
        fetch.fetch(parts, source, incoming, device.disk, device.wait, progress)
    return had


def fetched(device: Device) -> Source:
    """The update that ``bring`` left. Raises Unusable when there is none."""
    if not (device.place.incoming / ENVELOPE).is_file():
        raise Unusable("nothing was fetched; name a bundle, a folder or an address")
    return Folder(device.place.incoming)


def build(device: Device, found: Found, had: having.Had) -> None:
    """Build the version in the free slot, and make it what is tried next. Raises NotTrusted, NoRoom."""
    # Nobody may go back to the free slot from here on.
    name = device.change(state.without_previous).free_slot
    with explained(device.place.root):
        slots.build(found.update, device.place.slot(name), had, device.place.incoming, device.disk)
    version = Version(name, found.update.version, found.digest)
    device.change(lambda now: state.on_trial(now, version, device.boot, found.update.keys))


def try_out(device: Device, found: Found, address: str) -> None:
    """Start the version, put it through the gate, and keep it. Raises RolledBack, and then the one before serves."""
    update = found.update
    if not _begun(device):
        _start(device)
    reason = gate(
        address,
        update.questions,
        update.health_s,
        over=lambda: _over(device, found.digest),
        begun=lambda: _begun(device),
        clock=device.clock,
        wait=device.wait,
    )
    if reason:
        go_back(device, reason)
        raise RolledBack(f"version {update.version} did not pass its trial: {reason}; the version before serves")
    keep(device)


def keep(device: Device) -> State:
    """The trial passed; what was fetched is not needed any more."""
    after = device.change(lambda now: state.committed(now, device.settings.digest))
    incoming = device.place.incoming
    with suppress(OSError):  # it serves and is kept, whatever lies about
        fetch.tidy((), incoming, device.disk)
        if (incoming / ENVELOPE).is_file():
            device.disk.remove(incoming / ENVELOPE)
    return after


def go_back(device: Device, reason: str) -> State:
    """End the trial, if it is not over already, and start the version before."""
    after = device.change(lambda now: state.rolled_back(now, reason))
    device.service.restart()
    return after


def go_back_by_hand(device: Device) -> State:
    """End a trial, or go back to the version before the one that was kept. Raises Unusable where there is none."""
    now = device.state()
    if now.trial is None and not now.committed.slot:
        raise Unusable("what was installed serves: there is nothing to go back to")
    after = device.change(state.gone_back)
    device.service.restart()
    return after


def begin(where: Place, disk: Disk, boot: str) -> Version:
    """Just before the service starts: count the start of a trial, or take it back; then point ``current`` at what starts."""
    if not where.root.is_dir():
        return Version()
    identity = place.read_identity(where)
    with _locked(where):
        try:
            now = state.load(where.state, identity.digest)
        except Unusable:
            point(where, Version(), disk)  # of what was installed one thing is known: that it is whole
            raise
        after = state.at_start(now, boot, watched=_at_work(where))
        # The link first: a trial counts as begun only when it is what starts.
        point(where, after.started, disk)
        if after != now:
            state.save(where.state, after, disk)
    return after.started


def point(where: Place, version: Version, disk: Disk) -> None:
    """Make ``current`` lead to the slot of ``version``."""
    wanted = f"slots/{version.slot}" if version.slot else ""
    link = where.current
    if (str(link.readlink()) if link.is_symlink() else "") == wanted:
        return
    if wanted:
        new = link.with_name("current.new")
        if new.is_symlink():
            disk.remove(new)
        disk.symlink(new, wanted)
        disk.rename(new, link)
    else:
        disk.remove(link)
    disk.sync_folder(where.root)


@contextmanager
def alone(where: Place, disk: Disk) -> Iterator[None]:
    """One updater at a time. Raises Unusable when another one is working."""
    with explained(where.root):
        make_folders(disk, where.root)
        lock = where.updating.open("wb")
    with lock:
        if not _taken(lock):
            raise Unusable("another update is under way; wait for it to end")
        yield


def _at_work(where: Place) -> bool:
    """Whether an updater is working now."""
    if not where.updating.exists():
        return False
    with where.updating.open("rb") as lock:
        return not _taken(lock)


def _taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(where: Place) -> Iterator[None]:
    """For as long as the record is read and replaced."""
    with (where.root / "state.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(device: Device) -> None:
    """Have the trial started; where that is not possible it is over, and nobody finds it started later."""
    try:
        device.service.restart()
    except Unusable as error:
        reason = str(error)
        device.change(lambda now: state.rolled_back(now, reason))
        raise


def _begun(device: Device) -> bool:
    trial = device.state().trial
    return trial is not None and trial.starts > 0


def _over(device: Device, digest: str) -> str:
    """Why the trial of this update is over, or has not begun; "" while it runs."""
    now = device.state()
    if now.trial is not None and now.trial.version.update == digest:
        return ""
    failure = now.failure
    return failure.reason if failure and failure.version.update == digest else "the trial was ended by somebody else"
