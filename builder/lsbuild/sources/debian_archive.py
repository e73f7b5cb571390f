"""Knows where the machine's Debian archive is and whom it trusts: apt's own configuration, apt's own keyring.

No host name is written here; a machine that is not Debian names its mirror in the spec (``base: {mirror: ...}``).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from debian.deb822 import Deb822

from lsbuild.errors import SourceError

_APT = Path("/etc/apt")
KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
_NO_MIRROR = "name one in the spec, under the target: `base: {mirror: http://.../debian}`"


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Base URLs without a final slash. ``security`` is "" when security updates are not to be had."""

    main: str
    security: str = ""

    def of(self, path: str) -> str:
        """The URL of a pool path; the security archive keeps its files below ``pool/updates``."""
        return f"{self.security if path.startswith('pool/updates/') and self.security else self.main}/{path}"


def mirrors(apt: Path = _APT) -> Mirrors:
    """The Debian mirrors of this machine's apt configuration. Raises SourceError when it has none."""
    found = list(_urls(apt))
    main = next((url for url in found if url.rsplit("/", 1)[-1] == "debian"), "")
    if not main:
        raise SourceError("this machine's apt configuration names no Debian mirror", where=str(apt), hint=_NO_MIRROR)
    return Mirrors(main, next((url for url in found if url.rsplit("/", 1)[-1] == "debian-security"), ""))


def release(data: bytes, suite: str, keyrings: tuple[Path, ...]) -> dict[str, str]:
    """Check the signature of an ``InRelease`` file and give path -> sha256 of the index files it vouches for.

    Raises SourceError when it is not signed by a key of Debian's keyring, is of another suite, or has expired.
    """
    fields = Deb822(_signed_text(data, suite, keyrings))
    names = {fields.get("Codename"), fields.get("Suite")}
    if suite not in names:
        raise SourceError(f"the mirror's InRelease is of {' / '.join(sorted(map(str, names)))}, not of {suite}")
    until = fields.get("Valid-Until")
    if until and parsedate_to_datetime(until) < datetime.now(UTC):
        raise SourceError(
            f"the mirror's InRelease of {suite} was valid until {until}", hint="use a mirror that is kept up to date"
        )
    rows = (line.split() for line in fields.get("SHA256", "").splitlines())
    return {row[2]: row[0] for row in rows if len(row) == 3}


def _signed_text(data: bytes, suite: str, keyrings: tuple[Path, ...]) -> str:
    """The text that is covered by a good signature: gpgv writes it, so nothing around it is read."""
    keyring = next((path for path in keyrings if path.is_file()), None)
    gpgv = shutil.which("gpgv")
    if keyring is None or gpgv is None:
        missing = "gpgv" if gpgv is None else "debian-archive-keyring"
        raise SourceError(
            f"cannot check who signed the package index of {suite}: {missing} is not installed",
            hint=f"apt-get install {missing}, or build with a lsbuild.lock that names the packages already",
        )
    with tempfile.TemporaryDirectory(prefix="lsbuild-gpgv-") as folder:
        signed, text = Path(folder, "InRelease"), Path(folder, "text")
        signed.write_bytes(data)
        command = [
            gpgv,
            "--homedir",
            folder,
            "--status-fd",
            "1",
            "--keyring",
            str(keyring),
            "--output",
            str(text),
            str(signed),
        ]
        # Its exit code is 2 when one of several keys is unknown, which is normal while Debian changes keys.
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
        words = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] ") and len(line) > 9}
        if "VALIDSIG" not in words or "GOODSIG" not in words or "BADSIG" in words or not text.is_file():
            raise SourceError(
                f"the package index of {suite} has no good signature by a key of {keyring.name}",
                where=str(keyring),
                hint="upgrade debian-archive-keyring; if that does not help, the mirror is not to be trusted",
            )
        return text.read_text(encoding="utf-8")


def _urls(apt: Path) -> Iterator[str]:
    files = sorted(path for path in (apt / "sources.list.d").glob("*") if path.suffix in {".list", ".sources"})
    for path in [apt / "sources.list", *files]:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for url in _deb822_urls(text) if path.suffix == ".sources" else _line_urls(text):
            yield from _plain(url)


def _deb822_urls(text: str) -> Iterator[str]:
    for stanza in Deb822.iter_paragraphs(text, use_apt_pkg=False):
        if "deb" in stanza.get("Types", "").split() and stanza.get("Enabled", "yes").strip() != "no":
            yield from stanza.get("URIs", "").split()


def _line_urls(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split("#")[0].replace("]", "] ").split()
        if len(words) > 2 and words[0] == "deb":
            yield next((word for word in words[1:] if "://" in word or word.startswith("mirror+file:")), "")


def _plain(url: str) -> Iterator[str]:
    """Only what can be fetched by HTTP; ``mirror+file:`` names a list of such."""
    if url.startswith("mirror+file:"):
        listing = Path("/" + url.removeprefix("mirror+file:").lstrip("/"))
        for line in listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else ():
            yield from _plain(line.split("\t")[0].strip())
    elif url.startswith(("http://", "https://")):
        yield url.rstrip("/")
