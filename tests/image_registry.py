"""A real registry of images on loopback (Debian's docker-registry): open, with passwords, or with a token server."""

from __future__ import annotations

import base64
import datetime
import http.server
import ipaddress
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

USER, PASSWORD, IDENTITY = "ann", "secret", "an-identity-token"
_BCRYPT = "$2y$04$Bz/iocbgYYjLdWYJ1L3gI.syTxq0o5P29yNZjxr.7yYLGsAsu65mC"
SERVICE = "registry of the tests"


@contextmanager
def registry(folder: Path, auth: str = "", tls: str = "") -> Iterator[str]:
    """``HOST:PORT`` of a registry that keeps its data in ``folder``; ``auth`` and ``tls`` are parts of its configuration."""
    tool = shutil.which("docker-registry")
    if tool is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    folder.mkdir(exist_ok=True)
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f'http: {{addr: "127.0.0.1:0", secret: of-the-tests{tls}}}\n{auth}'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([tool, "serve", config], stdout=subprocess.DEVNULL, stderr=log)
    try:
        yield _address(process, folder / "log")
    finally:
        process.terminate()
        process.wait(20)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that it prints once it listens."""
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        match = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
        if match is not None:
            return match[1]
        time.sleep(0.02)
    pytest.skip(f"this docker-registry does not start here: {log.read_text()[-300:]}")


def certificate(folder: Path) -> str:
    """The ``tls`` of a registry whose certificate for 127.0.0.1 signs itself; it is in ``folder/tls.pem``."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tls.key").write_bytes(text)
    (folder / "tls.pem").write_bytes(_certificate(key).public_bytes(Encoding.PEM))
    return f", tls: {{certificate: {folder}/tls.pem, key: {folder}/tls.key}}"


def with_passwords(folder: Path) -> str:
    """The ``auth`` of a registry that knows one user."""
    (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    return f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"


@dataclass
class TokenServer:
    """Docker's token server: signs what was asked for when the login is right, or anonymously ``pull``."""

    folder: Path
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    url: str = ""

    @property
    def auth(self) -> str:
        """The ``auth`` of a registry that trusts it."""
        return (
            f"auth: {{token: {{realm: {self.url}/token, service: {SERVICE}, issuer: tests, "
            f"rootcertbundle: {self.folder}/certificate.pem}}}}\n"
        )


@contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    """The server while the block runs."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    certificate = _certificate(key)
    found = TokenServer(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            found.asked.append(query)
            wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            given = self.headers.get("Authorization")
            if given and given != wanted:
                self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]})
            else:
                self._answer(200, {"token": _signed(key, certificate, query["scope"], all_of_it=bool(given))})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            found.asked.append(form)
            if form.get("refresh_token") != [IDENTITY]:
                self._answer(401, {})
            else:
                scopes = form["scope"][0].split()
                self._answer(200, {"access_token": _signed(key, certificate, scopes, all_of_it=True)})

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            from cryptography.hazmat.primitives.serialization import Encoding

            (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
            yield found
        finally:
            server.shutdown()
            thread.join()


def _certificate(key: Any) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )


def _signed(key: Any, certificate: Any, scopes: list[str], *, all_of_it: bool) -> str:
    """A JSON web token as the registry reads it (RS256, its certificate in ``x5c``)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.serialization import Encoding

    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        allowed = [each for each in actions.split(",") if all_of_it or each == "pull"]
        access.append({"type": kind, "name": name, "actions": allowed})
    der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    claims = {"iss": "tests", "sub": USER, "aud": SERVICE, "nbf": now - 60, "iat": now, "exp": now + 600, "jti": "1"}
    parts = ({"typ": "JWT", "alg": "RS256", "x5c": [der]}, {**claims, "access": access})
    text = ".".join(_plain(json.dumps(part).encode()) for part in parts)
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_plain(signature)}"


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class BadLine:
    """A proxy of connections to ``target`` that cuts the first ``cuts`` of them after ``after`` bytes, up or down."""

    def __init__(self, target: str, cuts: int, after: int) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._left, self._after = cuts, after
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.cut = 0

    def __enter__(self) -> str:
        self._start(self._accept)
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        # Closing alone would wake no thread; and what a thread reads from is closed after it has ended.
        _end(self._listener)
        self._threads[0].join(20)
        for each in self._sockets:
            _end(each)
        for thread in self._threads:
            thread.join(20)
        for each in (self._listener, *self._sockets):
            each.close()

    def _start(self, work: Any, *words: object) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((self._host, self._port))
            self._sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                self._start(self._copy, one, other)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if passed > self._after and self._takes_a_cut():
                    break
                sink.sendall(data)
        _end(source)
        _end(sink)

    def _takes_a_cut(self) -> bool:
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            self.cut += 1
            return True


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
