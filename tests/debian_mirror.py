"""A little signed Debian archive, for the tests that fetch from one."""

from __future__ import annotations

import hashlib
import http.server
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

MakeDeb = Callable[..., Path]


class Archive:
    """A signed Debian archive in a folder, with one package ``app`` that needs ``lib``."""

    def __init__(self, root: Path, home: Path, make_deb: MakeDeb) -> None:
        self.root, self.home, self.keyring = root, home, home / "ring.gpg"
        self.hashes: dict[str, str] = {}
        texts = []
        for name, depends in (("app", "lib"), ("lib", "")):
            data = make_deb(name).read_bytes()
            path = f"pool/main/{name}_1.0_amd64.deb"
            self._write(path, data)
            self.hashes[path] = hashlib.sha256(data).hexdigest()
            texts.append(
                f"Package: {name}\nVersion: 1.0\n{f'Depends: {depends}' if depends else 'Priority: optional'}\n"
                f"Filename: {path}\nSize: {len(data)}\nSHA256: {self.hashes[path]}\n"
            )
        self.index = lzma.compress("\n".join(texts).encode())
        self.publish("Codename: trixie")

    def publish(self, head: str) -> None:
        digest = hashlib.sha256(self.index).hexdigest()
        self._write(f"dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}", self.index)
        text = f"Origin: Test\n{head}\nSHA256:\n {digest} {len(self.index)} main/binary-amd64/Packages.xz\n"
        (self.root / "Release").write_text(text)
        out = self.root / "dists/trixie/InRelease"
        out.unlink(missing_ok=True)
        gpg = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--clearsign", "--output", str(out)]
        subprocess.run([*gpg, str(self.root / "Release")], check=True, capture_output=True)

    def _write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Be quiet."""
