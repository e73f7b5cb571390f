"""What is written into the system of an image beside its packages: accounts, units, network, and the two scripts that boot it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lsbuild.packing.archive import Member

LABEL = "lsbuild-root"
BOOT = "boot/firmware"
"""Where the first partition is mounted, as on Raspberry Pi OS."""
USER = "pi"
FIRST_BOOT = "usr/lib/lsbuild/first_boot.py"
_SYSTEM = "etc/systemd/system"
_EMPTY = (
    "proc",
    "sys",
    "dev",
    "run",
    "root",
    "mnt",
    "home",
    "srv",
    "var/lib",
    "var/cache",
    "var/log",
    "var/spool",
    BOOT,
)
PROTECTED = {"usr/bin/sudo": 0o4755, "usr/bin/su": 0o4755, "usr/bin/passwd": 0o4755}
"""Programs whose set-user-id bit every reader of archives here drops."""
_ENABLED = {
    "multi-user.target.wants": ("ssh.service", "systemd-networkd.service"),
    "sysinit.target.wants": ("systemd-timesyncd.service", "systemd-resolved.service"),
}
_MASKED = ("systemd-firstboot.service", "wpa_supplicant.service")
_PAM = {
    "auth": "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
    "account": "account [success=1 default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n",
    "password": "password [success=1 default=ignore] pam_unix.so obscure yescrypt\npassword requisite pam_deny.so\n",
    "session": "session required pam_unix.so\nsession optional pam_systemd.so\n",
    "session-noninteractive": "session required pam_unix.so\n",
}
_FSTAB = f"LABEL={LABEL} / ext4 noatime,errors=remount-ro 0 1\nLABEL=LSBOOT /{BOOT} vfat noatime,nofail,x-systemd.device-timeout=600 0 2\n"
_FIRST_BOOT_UNIT = f"""\
[Unit]
Description=Settings from the boot partition
DefaultDependencies=no
RequiresMountsFor=/{BOOT}
After=systemd-remount-fs.service systemd-sysusers.service
Before=network-pre.target sysinit.target ssh.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/python3.13 -I -S -B /{FIRST_BOOT}

[Install]
WantedBy=sysinit.target
"""
_WIRED = "[Match]\nName=en* eth* end*\n\n[Network]\nDHCP=yes\n"
_SSHD = "PasswordAuthentication no\nPermitRootLogin no\n"
_INIT = """\
#!/bin/sh
# Loads what leads to the root file system, mounts it by its label, and hands over to systemd.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
for module in {modules}; do $bb insmod /modules/$module.ko 2>/dev/null; done
count=0
while ! root=$($bb findfs LABEL={label}) && [ $count -lt 60 ]; do $bb sleep 1; count=$((count + 1)); done
if ! $bb mount -t ext4 -o rw,noatime "$root" /root; then
    echo "lsbuild: no file system with the label {label} was found"
    exec /bin/sh
fi
# The index of the modules is made on the board, once: a build does not run the tools of another system.
if [ ! -e /root/usr/lib/modules/{version}/modules.dep.bin ]; then
    $bb chroot /root /usr/sbin/depmod {version}
fi
$bb umount /sys /proc
$bb mount --move /dev /root/dev
exec $bb switch_root /root /sbin/init
"""


def init(modules: Iterable[str], version: str) -> bytes:
    """The first program that the kernel runs; ``modules`` in the order in which they are loaded."""
    return _INIT.format(modules=" ".join(modules), label=LABEL, version=version).encode()


def files(found: Mapping[str, Member]) -> Iterator[Member]:
    """What maintainer scripts or a person would have written; ``found`` are the files of the packages."""
    for link in ("bin", "sbin", "lib"):
        yield Member(link, link=f"usr/{link}")
    for folder in _EMPTY:
        yield Member(folder, mode=0o755)
    for folder in ("tmp", "var/tmp"):
        yield Member(folder, mode=0o1777)
    yield Member("var/run", link="/run")
    yield from _accounts(found)
    yield from _settings(found)
    yield from _units()
    certificates = sorted(path for path in found if path.startswith("usr/share/ca-certificates/"))
    bundle = b"".join(bytes(found[path].content or b"").rstrip() + b"\n" for path in certificates)  # type: ignore[arg-type]
    yield Member("etc/ssl/certs/ca-certificates.crt", bundle)


def _accounts(found: Mapping[str, Member]) -> Iterator[Member]:
    passwd = bytes(found["usr/share/base-passwd/passwd.master"].content or b"").decode()  # type: ignore[arg-type]
    group = bytes(found["usr/share/base-passwd/group.master"].content or b"").decode()  # type: ignore[arg-type]
    passwd += f"sshd:x:990:65534::/run/sshd:/usr/sbin/nologin\n{USER}:x:1000:1000::/home/{USER}:/bin/bash\n"
    group += f"{USER}:x:1000:\n"
    passwd = "".join(line.replace(":*:", ":x:", 1) for line in passwd.splitlines(keepends=True))
    # Nobody has a password: who comes, comes with a key.
    shadow = "".join(f"{line.partition(':')[0]}:*:19000:0:99999:7:::\n" for line in passwd.splitlines())
    yield Member("etc/passwd", passwd.encode())
    yield Member("etc/group", group.encode())
    yield Member("etc/shadow", shadow.encode(), 0o600)
    yield Member("etc/sudoers.d/lsbuild", f"{USER} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440)


def _settings(found: Mapping[str, Member]) -> Iterator[Member]:
    plain = {
        "etc/fstab": _FSTAB,
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "etc/machine-id": "",
        "etc/locale.conf": "LANG=C.UTF-8\n",
        "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files resolve dns\n",
        "etc/systemd/network/20-wired.network": _WIRED,
        "etc/ssh/sshd_config.d/lsbuild.conf": _SSHD,
        "etc/systemd/system-preset/00-lsbuild.preset": "disable *\n",
        "etc/systemd/journald.conf.d/lsbuild.conf": "[Journal]\nSystemMaxUse=64M\n",
    }
    yield from (Member(path, text.encode()) for path, text in plain.items())
    yield from (Member(f"etc/pam.d/common-{kind}", text.encode()) for kind, text in _PAM.items())
    yield Member("etc/resolv.conf", link="/run/systemd/resolve/stub-resolv.conf")
    yield Member("etc/ssh/sshd_config", found["usr/share/openssh/sshd_config"].content)
    yield Member(FIRST_BOOT, (Path(__file__).parent / "first_boot.py").read_bytes())


def _units() -> Iterator[Member]:
    yield Member(f"{_SYSTEM}/lsbuild-first-boot.service", _FIRST_BOOT_UNIT.encode())
    yield Member(f"{_SYSTEM}/sysinit.target.wants/lsbuild-first-boot.service", link="../lsbuild-first-boot.service")
    yield Member(f"{_SYSTEM}/default.target", link="/usr/lib/systemd/system/multi-user.target")
    for target, units in _ENABLED.items():
        yield from (Member(f"{_SYSTEM}/{target}/{unit}", link=f"/usr/lib/systemd/system/{unit}") for unit in units)
    yield from (Member(f"{_SYSTEM}/{unit}", link="/dev/null") for unit in _MASKED)
