"""The settings of a board as they stand in ``lsbuild.txt`` on the boot partition of its card: read, checked and changed.

It stands alone, on the standard library: the board runs this very file, so what is refused there is refused here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping

FILE = "lsbuild.txt"
SECRETS = ("wifi_password", "env.")
"""Settings that leave the boot partition, which every machine can read, as soon as they were taken over."""
ZONES = "usr/share/zoneinfo"

Settings = dict[str, list[str]]
"""Name -> its values in order; only ``ssh_key`` and ``dns`` have several that count."""


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        return "" if re.fullmatch(pattern, value, re.ASCII) else what

    return check


def _address(value: str) -> str:
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return "is no address"
    return "" if "/" in value else "needs the length of its network, like 192.168.1.50/24"


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return "is no address"
    return ""


def _network_name(value: str) -> str:
    return "" if 0 < len(value.encode()) <= 32 else "is no name of a network: it has 1 to 32 bytes"


def _password(value: str) -> str:
    fits = 8 <= len(value) <= 63 and all(" " <= letter <= "~" for letter in value)
    return (
        "" if fits or re.fullmatch("[0-9a-fA-F]{64}", value) else "is no password of a network: it has 8 to 63 letters"
    )


def _any(value: str) -> str:
    return "" if "\0" not in value else "holds a zero byte"


CHECKS: Mapping[str, Callable[[str], str]] = {
    "hostname": _matching(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", "is no name of a machine"),
    "ssh_key": _matching(
        r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9-]+@openssh\.com) [A-Za-z0-9+/]{40,}={0,2}( [ -~]*)?",
        "is no public key of OpenSSH: the line of a .pub file",
    ),
    "timezone": _matching(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", "is no time zone, like Europe/Berlin"),
    "wifi_ssid": _network_name,
    "wifi_password": _password,
    "wifi_country": _matching(r"[A-Z]{2}", "is no country: two capital letters, like DE"),
    "address": _address,
    "gateway": _host,
    "dns": _host,
}
"""What there is to set besides ``env.NAME``, and what is wrong with a value, "" when nothing is."""
_VARIABLE = re.compile(r"env\.[A-Za-z_][A-Za-z0-9_]*")


def fault(key: str, value: str) -> str:
    """What is wrong with a setting, "" when nothing is. A secret's value is not repeated."""
    check = _any if _VARIABLE.fullmatch(key) else CHECKS.get(key)
    if check is None:
        return f"{key!r} is no setting; there are {', '.join(CHECKS)} and env.NAME"
    wrong = check(value)
    if not wrong:
        return ""
    return f"{key} {wrong}" if key.startswith(SECRETS) else f"{key} {value!r} {wrong}"


def parse(text: str) -> tuple[Settings, list[str]]:
    """The settings that can be used, and a sentence for every line that cannot; such a line counts for nothing."""
    found: Settings = {}
    faults = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        key, sign, value = (part.strip() for part in line.partition("="))
        if not key or key.startswith("#") or (sign and not value):
            continue
        wrong = fault(key, value) if sign else f"{line.strip()[:40]!r} is no NAME=VALUE"
        if wrong:
            faults.append(f"line {number}: {wrong}")
        else:
            found.setdefault(key, []).append(value)
    return found, faults


def taken(text: str) -> str:
    """The file without the values of secrets, which anybody who holds the card could read."""
    lines = []
    for line in text.splitlines():
        key, sign, value = (part.strip() for part in line.partition("="))
        lines.append(f"# {key} was taken over" if sign and value and key.startswith(SECRETS) else line)
    return "\n".join(lines) + "\n"


def changed(text: str, settings: Settings) -> str:
    """The file with ``settings`` in place of what it says of the same names; everything else stays as it is."""
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in settings]
    return "\n".join([*kept, *(f"{key}={value}" for key, values in settings.items() for value in values)]) + "\n"
