"""Runs on the board at every boot: grows the root file system once, and takes over ``lsbuild.txt`` of the boot partition.

It stands alone, with the standard library of the board's Python. A setting is written before it is taken off the boot
partition, so a power cut in between does it twice and never loses it. What is wrong is said, and the board goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsbuild.delivery import card_settings
else:
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import card_settings
    except ModuleNotFoundError:  # where this is looked at, not run
        from lsbuild.delivery import card_settings

USER, USER_ID = "pi", 1000
_WIFI = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
_GROWN = "var/lib/lsbuild-grown"

Run = Callable[[Sequence[str]], object]


def main(root: Path, run: Run) -> int:
    """All of it below ``root``; always 0, so that the board stays within reach."""
    for work in (grow, settle, name, host_key):
        try:
            work(root, run)
        except OSError as error:
            sys.stderr.write(f"lsbuild: {work.__name__}: {error}\n")
    return 0


def grow(root: Path, run: Run) -> None:
    """Give the last partition, which holds the root file system, the rest of the card; once."""
    if (root / _GROWN).exists():
        return
    mounts = (line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines())
    number = next(words[2] for words in mounts if words[4] == "/")
    part = (root / "sys/dev/block" / number).resolve()
    if (part / "partition").exists():
        disk = f"/dev/{part.parent.name}"
        larger = f"sfdisk --quiet --no-reread --no-tell-kernel --force -N {_read(part / 'partition')} {disk}"
        run(("sh", "-c", f"echo ', +' | {larger}"))
        run(("partx", "-u", disk))
        run(("resize2fs", f"/dev/{part.name}"))
    _write(root / _GROWN, "")


def settle(root: Path, run: Run) -> None:  # noqa: ARG001 - one form for all
    """Take over ``lsbuild.txt``."""
    path = root / "boot/firmware" / card_settings.FILE
    if not path.exists():
        return
    text = path.read_text(errors="replace")
    found, faults = card_settings.parse(text)
    for each in [*faults, *apply(root, found)]:
        sys.stderr.write(f"{card_settings.FILE}: {each}\n")
    if (rest := card_settings.taken(text)) != text:
        _overwrite(path, rest)


def name(root: Path, run: Run) -> None:  # noqa: ARG001
    """Tell the kernel its name, which it was given before this ran."""
    if (path := root / "etc/hostname").exists():
        (root / "proc/sys/kernel/hostname").write_text(_read(path))


def host_key(root: Path, run: Run) -> None:
    """Make the key by which this board, and no other, is known to ssh."""
    path = root / _HOST_KEY
    if not path.exists() or not path.stat().st_size:
        path.unlink(missing_ok=True)
        run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)))


def apply(root: Path, found: card_settings.Settings) -> Iterable[str]:
    """Write the settings where the system reads them; gives a sentence for each that does not fit this system."""
    if "hostname" in found:
        host = found["hostname"][-1]
        _write(root / "etc/hostname", f"{host}\n")
        _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {host}\n::1 localhost\n")
    if "ssh_key" in found:
        _keys(root / "home" / USER / ".ssh", found["ssh_key"])
    if "timezone" in found:
        zone = found["timezone"][-1]
        if (root / card_settings.ZONES / zone).is_file():
            _link(root / "etc/localtime", f"/{card_settings.ZONES}/{zone}")
        else:
            yield f"there is no time zone {zone!r}"
    if "wifi_ssid" in found:
        yield from _wifi(root, found)
    if "address" in found:
        lines = [f"Address={found['address'][-1]}", *(f"Gateway={value}" for value in found.get("gateway", [])[-1:])]
        lines += [f"DNS={value}" for value in found.get("dns", [])]
        text = "[Match]\nName=en* eth* end* wl*\n\n[Network]\nMulticastDNS=yes\n" + "\n".join(lines) + "\n"
        _write(root / "etc/systemd/network/10-lsbuild.network", text)
    elif "gateway" in found or "dns" in found:
        yield "gateway and dns belong to an address, and there is none"
    else:
        (root / "etc/systemd/network/10-lsbuild.network").unlink(missing_ok=True)
    variables = {key.removeprefix("env."): values[-1] for key, values in found.items() if key.startswith("env.")}
    if variables:
        yield from _environment(root, variables)


def _keys(folder: Path, keys: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "authorized_keys"
    _write(path, "\n".join(keys) + "\n", 0o600)
    folder.chmod(0o700)
    if os.geteuid() == 0:
        for each in (folder.parent, folder, path):
            os.chown(each, USER_ID, USER_ID)


def _wifi(root: Path, found: card_settings.Settings) -> Iterable[str]:
    ssid, path = found["wifi_ssid"][-1], root / _WIFI
    known = f"ssid={ssid.encode().hex()}\n"
    if "wifi_password" in found:
        password = found["wifi_password"][-1]
        key = password if len(password) == 64 else _psk(ssid, password)
        security = f"psk={key}"
    elif path.exists() and known in path.read_text():
        return  # its password was taken off the boot partition before
    else:
        security = "key_mgmt=NONE"
    country = found.get("wifi_country", [""])[-1]
    if not country:
        yield "wifi_country is not set: channels that are not free everywhere are not used"
    head = f"country={country}\n" if country else ""
    _write(path, f"{head}network={{\n  {known}  {security}\n  scan_ssid=1\n}}\n", 0o600)
    _write(
        root / "etc/systemd/network/30-wireless.network", "[Match]\nName=wl*\n\n[Network]\nDHCP=yes\nMulticastDNS=yes\n"
    )
    wants = root / "etc/systemd/system/multi-user.target.wants/wpa_supplicant@wlan0.service"
    _link(wants, "/usr/lib/systemd/system/wpa_supplicant@.service")


def _psk(ssid: str, password: str) -> str:
    """The key that stands for a password in this network (IEEE 802.11i); the password itself is kept nowhere."""
    import hashlib  # it brings OpenSSL along, which most starts do not need

    return hashlib.pbkdf2_hmac("sha1", password.encode(), ssid.encode(), 4096, 32).hex()


def _environment(root: Path, variables: dict[str, str]) -> Iterable[str]:
    path = next(iter(sorted((root / "etc/lsbuild").glob("*.env"))), None)
    if path is None:
        yield "there is no server whose environment could be set"
        return
    kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in variables]
    _write(path, "\n".join([*kept, *(f"{key}={_quoted(value)}" for key, value in variables.items())]) + "\n", 0o600)


def _quoted(value: str) -> str:
    """As systemd reads it back from an EnvironmentFile."""
    return '"' + "".join(f"\\{letter}" if letter in '"\\$`' else letter for letter in value) + '"'


def _read(path: Path) -> str:
    return path.read_text().strip()


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, and on the disk before anything is taken off the boot partition."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _overwrite(path: Path, text: str) -> None:
    """In place, filled up with empty lines, and on the disk when this returns.

    On FAT a rename is not kept as a whole: after a power cut the name may lead to clusters that were freed. And what is
    freed still holds the secrets.
    """
    with path.open("r+b") as stream:
        stream.write(text.encode().ljust(path.stat().st_size, b"\n"))
        stream.flush()
        os.fsync(stream.fileno())


def _link(path: Path, target: str) -> None:
    if not path.is_symlink() or path.readlink() != Path(target):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise OSError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/"), _run))
