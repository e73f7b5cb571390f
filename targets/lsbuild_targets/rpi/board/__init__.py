"""What is written into the system of an image beside its packages: accounts, units, network, and the two scripts that boot it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lsbuild.delivery import card_settings
from lsbuild.packing.archive import Member
from lsbuild_targets.rpi.board import accounts

BOOT = "boot/firmware"
"""Where the first partition is mounted, as on Raspberry Pi OS."""
TOOLS = "usr/lib/lsbuild"
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
_MASKED = (
    # What they would make is in the image already, or was done by the first root.
    "ldconfig.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    # Nobody has a password, so there is nothing to type at a screen or a serial line, and no session to keep.
    "getty.target",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    # Device nodes and file systems that nothing here uses, and parts that no board has.
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "run-lock.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-creds.socket",
    "systemd-hibernate-clear.service",
    "systemd-initctl.socket",
    "systemd-journal-flush.service",
    "systemd-modules-load.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-sysext.socket",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-udev-load-credentials.service",
    # Wi-Fi has a unit for its one interface.
    "wpa_supplicant.service",
)
_PAM = {
    "auth": "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
    "account": "account [success=1 default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n",
    "password": "password [success=1 default=ignore] pam_unix.so obscure yescrypt\npassword requisite pam_deny.so\n",
    "session": "session required pam_unix.so\n",
    "session-noninteractive": "session required pam_unix.so\n",
}
_FIRST_BOOT_UNIT = f"""\
[Unit]
Description=Settings from the boot partition
DefaultDependencies=no
Before=network-pre.target systemd-networkd.service systemd-resolved.service sysinit.target ssh.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/python3.13 -I -S -B /{TOOLS}/first_boot.py
StandardError=journal+console
TimeoutStartSec=infinity

[Install]
WantedBy=sysinit.target
"""
_SSH = f"[Unit]\nConditionPathExists=/home/{accounts.USER}/.ssh/authorized_keys\n"
_PATIENCE = "[Manager]\nDefaultTimeoutStartSec=300s\nDefaultDeviceTimeoutSec=300s\n"
"""A slow card, and a machine that is emulated, take longer than systemd's 90 seconds."""
_WIRED = "[Match]\nName=en* eth* end*\n\n[Network]\nDHCP=yes\nMulticastDNS=yes\n"
_SSHD = "PasswordAuthentication no\nPermitRootLogin no\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
_INIT = """\
#!/bin/sh
# Loads what leads to the card, mounts its two partitions, which root=PARTUUID= names, and hands over to systemd.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
for word in $($bb cat /proc/cmdline); do
    case $word in root=PARTUUID=*) root=${word#root=PARTUUID=} ;; esac
done
# The partition of that number on the disk whose table has that mark; only the newest kernels tell it in /sys.
find_part() {
    for disk in /sys/class/block/*; do
        mark=$([ -e "$disk/partition" ] || $bb od -An -tx4 -j440 -N4 "/dev/${disk##*/}" 2>/dev/null)
        [ "${mark# }" = "${root%-*}" ] || continue
        part=$($bb grep -lx "$1" "$disk"/*/partition) && part=${part%/partition} && part=/dev/${part##*/} && return
    done
    return 1
}
for module in @MODULES@; do
    find_part 2 && break
    $bb insmod "/modules/$module.ko" 2>/dev/null
done
count=0
while ! find_part 2 && [ $count -lt 60 ]; do $bb sleep 1; count=$((count + 1)); done
if ! $bb mount -t ext4 -o rw,noatime "$part" /root; then
    echo "lsbuild: no ext4 file system on the partition $root was found" >/dev/console
    exec /bin/sh
fi
# Without the boot partition the board starts as well, with the settings that it has.
find_part 1 && $bb mount -t vfat -o rw,flush,umask=0077 "$part" /root/@BOOT@
$bb umount /sys /proc
$bb mount --move /dev /root/dev
exec $bb switch_root /root /sbin/init
"""


def init(modules: Iterable[str]) -> bytes:
    """The first program that the kernel runs; ``modules`` in the order in which they are loaded."""
    return _INIT.replace("@MODULES@", " ".join(modules)).replace("@BOOT@", BOOT).encode()


def files(found: Mapping[str, Member]) -> Iterator[Member]:
    """What maintainer scripts or a person would have written; ``found`` are the files of the packages."""
    for link in ("bin", "sbin", "lib"):
        yield Member(link, link=f"usr/{link}")
    for folder in _EMPTY:
        yield Member(folder, mode=0o755)
    for folder in ("tmp", "var/tmp"):
        yield Member(folder, mode=0o1777)
    yield Member("var/run", link="/run")
    wanted = sorted(path for path in found if path.startswith("usr/lib/sysusers.d/") and path.endswith(".conf"))
    for path, text, mode in accounts.files(_text(found[path]) for path in wanted):
        yield Member(path, text.encode(), mode)
    yield Member("etc/sudoers.d/lsbuild", f"{accounts.USER} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440)
    yield from _settings(found)
    yield from _units()
    certificates = sorted(path for path in found if path.startswith("usr/share/ca-certificates/"))
    bundle = "".join(_text(found[path]).rstrip() + "\n" for path in certificates)
    yield Member("etc/ssl/certs/ca-certificates.crt", bundle.encode())


def _settings(found: Mapping[str, Member]) -> Iterator[Member]:
    plain = {
        "etc/fstab": "# The first root mounts both partitions.\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "etc/machine-id": "",
        "etc/locale.conf": "LANG=C.UTF-8\n",
        "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files resolve dns\n",
        "etc/systemd/network/20-wired.network": _WIRED,
        "etc/systemd/system.conf.d/lsbuild.conf": _PATIENCE,
        "etc/ssh/sshd_config.d/lsbuild.conf": _SSHD,
        "etc/environment": "",
        # So that HOSTNAME.local is found in the network of the board.
        "etc/systemd/resolved.conf.d/lsbuild.conf": "[Resolve]\nMulticastDNS=yes\nLLMNR=no\n",
        "etc/systemd/system-preset/00-lsbuild.preset": "disable *\n",
        "etc/systemd/journald.conf.d/lsbuild.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n",
        # As old as /usr: systemd has nothing to bring up to date.
        "etc/.updated": "",
        "var/.updated": "",
    }
    yield from (Member(path, text.encode()) for path, text in plain.items())
    yield from (Member(f"etc/pam.d/common-{kind}", text.encode()) for kind, text in _PAM.items())
    yield Member("etc/resolv.conf", link="/run/systemd/resolve/stub-resolv.conf")
    yield Member("etc/localtime", link="/usr/share/zoneinfo/Etc/UTC")
    # Of the two that Debian offers, the one that its kernels trust; an alternative that a script would have set.
    for ending in (".db", ".db.p7s"):
        yield Member(f"usr/lib/firmware/regulatory{ending}", link=f"regulatory{ending}-debian")
    yield Member("etc/ssh/sshd_config", found["usr/share/openssh/sshd_config"].content)
    yield Member(f"{TOOLS}/first_boot.py", Path(__file__).with_name("first_boot.py").read_bytes())
    yield Member(f"{TOOLS}/card_settings.py", Path(card_settings.__file__).read_bytes())


def _units() -> Iterator[Member]:
    yield Member(f"{_SYSTEM}/lsbuild-first-boot.service", _FIRST_BOOT_UNIT.encode())
    yield Member(f"{_SYSTEM}/sysinit.target.wants/lsbuild-first-boot.service", link="../lsbuild-first-boot.service")
    yield Member(f"{_SYSTEM}/ssh.service.d/lsbuild.conf", _SSH.encode())
    yield Member(f"{_SYSTEM}/default.target", link="/usr/lib/systemd/system/multi-user.target")
    for target, units in _ENABLED.items():
        yield from (Member(f"{_SYSTEM}/{target}/{unit}", link=f"/usr/lib/systemd/system/{unit}") for unit in units)
    yield from (Member(f"{_SYSTEM}/{unit}", link="/dev/null") for unit in _MASKED)


def _text(member: Member) -> str:
    content = member.content
    return (content.read_bytes() if isinstance(content, Path) else content or b"").decode(errors="replace")
