"""Runs on the board at every boot: grows the root file system once, and takes over ``lsbuild.txt`` of the boot partition.

It stands alone, with the standard library of the board's Python. A setting is written before it is taken off the boot
partition, so a power cut in between does it twice and never loses it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

FILE = "boot/firmware/lsbuild.txt"
SECRET = ("wifi_password", "env.")
USER, USER_ID = "pi", 1000
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_KEYS = ("hostname", "ssh_key", "wifi_ssid", "wifi_password", "wifi_country", "address", "gateway", "dns")

Run = Callable[[Sequence[str]], object]


def parse(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """The settings, each with all its values, and a sentence for every line that is none."""
    found: dict[str, list[str]] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not (key in _KEYS or re.fullmatch(r"env\.[A-Za-z_][A-Za-z0-9_]*", key)):
            faults.append(f"line {number}: {key!r} is no setting; there are {', '.join(_KEYS)} and env.NAME")
        elif key == "hostname" and not _HOSTNAME.fullmatch(value):
            faults.append(f"line {number}: {value!r} is no name of a machine")
        elif value:
            found.setdefault(key, []).append(value)
    return found, faults


def apply(root: Path, found: dict[str, list[str]], service: str) -> None:
    """Write the settings where the system reads them, below ``root``."""
    if "hostname" in found:
        name = found["hostname"][-1]
        _write(root / "etc/hostname", f"{name}\n")
        _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n")
    if "ssh_key" in found:
        _keys(root / "home" / USER / ".ssh", found["ssh_key"])
    if "wifi_ssid" in found:
        _wifi(root, found)
    if "address" in found:
        lines = [f"Address={found['address'][-1]}", *(f"Gateway={value}" for value in found.get("gateway", [])[-1:])]
        lines += [f"DNS={value}" for value in found.get("dns", [])]
        _write(
            root / "etc/systemd/network/10-lsbuild.network",
            "[Match]\nName=en* eth* end* wl*\n\n[Network]\n" + "\n".join(lines) + "\n",
        )
    settings = {key.removeprefix("env."): values[-1] for key, values in found.items() if key.startswith("env.")}
    if settings and service:
        _environment(root / "etc/lsbuild" / f"{service}.env", settings)


def taken(text: str) -> str:
    """The file without the values of secrets, which anybody who holds the card could read."""
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        lines.append(f"# {key} was taken over" if key.startswith(SECRET) and not key.startswith("#") else line)
    return "\n".join(lines) + "\n"


def grow(root: Path, run: Run) -> None:
    """Give the last partition, which holds the root file system, the rest of the card; once."""
    done = root / "var/lib/lsbuild-grown"
    if done.exists():
        return
    device = subprocess.run(
        ["/usr/bin/findmnt", "-no", "SOURCE", "/"], capture_output=True, text=True, check=True
    ).stdout.strip()
    match = re.fullmatch(r"(/dev/(?:mmcblk\d+|nvme\d+n\d+|[a-z]+))p?(\d+)", device)
    if match is None:
        return
    run(["sh", "-c", f"echo ', +' | sfdisk --no-reread --force -N {match[2]} {match[1]}"])
    run(["partx", "-u", match[1]])
    run(["resize2fs", device])
    _write(done, "")


def main() -> int:
    """Do both; a fault is told in the journal and stops nothing, so that the board stays within reach."""
    root = Path("/")
    for work in (lambda: grow(root, _run), lambda: settle(root, _service(root))):
        try:
            work()
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"lsbuild: {error}\n")
    if not (root / "etc/ssh/ssh_host_ed25519_key").exists():
        _run(["ssh-keygen", "-A"])
    name = root / "etc/hostname"
    if name.exists():
        (root / "proc/sys/kernel/hostname").write_text(name.read_text().strip())
    return 0


def settle(root: Path, service: str) -> None:
    """Take over ``lsbuild.txt``."""
    path = root / FILE
    if not path.exists():
        return
    text = path.read_text(errors="replace")
    found, faults = parse(text)
    for fault in faults:
        sys.stderr.write(f"lsbuild.txt: {fault}\n")
    apply(root, found, service)
    if (rest := taken(text)) != text:
        _write(path, rest)


def _service(root: Path) -> str:
    return next((path.stem for path in sorted((root / "etc/lsbuild").glob("*.env"))), "")


def _keys(folder: Path, keys: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "authorized_keys"
    _write(path, "\n".join(keys) + "\n")
    path.chmod(0o600)
    folder.chmod(0o700)
    for each in (folder.parent, folder, path):
        _chown(each)


def _chown(path: Path) -> None:
    import os

    if os.geteuid() == 0:
        os.chown(path, USER_ID, USER_ID)


def _wifi(root: Path, found: dict[str, list[str]]) -> None:
    country = found.get("wifi_country", ["GB"])[-1]
    security = "key_mgmt=NONE"
    if "wifi_password" in found:
        security = f'psk="{found["wifi_password"][-1]}"'
    elif (root / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf").exists():
        return  # its password was taken off the boot partition before
    text = f'country={country}\nnetwork={{\n  ssid="{found["wifi_ssid"][-1]}"\n  {security}\n}}\n'
    path = root / "etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
    _write(path, text)
    path.chmod(0o600)
    _write(root / "etc/systemd/network/30-wireless.network", "[Match]\nName=wl*\n\n[Network]\nDHCP=yes\n")
    wants = root / "etc/systemd/system/multi-user.target.wants/wpa_supplicant@wlan0.service"
    if not wants.is_symlink():
        wants.symlink_to("/usr/lib/systemd/system/wpa_supplicant@.service")


def _environment(path: Path, settings: dict[str, str]) -> None:
    kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
    _write(path, "\n".join([*kept, *(f"{name}={value}" for name, value in settings.items())]) + "\n")
    path.chmod(0o600)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and on the disk before anything is taken off the boot partition."""
    import os

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _run(command: Sequence[str]) -> None:
    subprocess.run(list(command), check=True)  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
