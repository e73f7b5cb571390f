"""Makes a base root file system for an image out of .deb packages, as one tar; it runs nothing that is inside them.

No maintainer script is run and no shell is kept: what a script would have written (users, the certificate bundle, the
``/bin`` links) is written here. Steps: ``lsbuild.packing.rootfs:extract`` and ``lsbuild.packing.rootfs:bytecode``.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lsbuild.api import Json, Source, SourceFile, StepContext, StepError
from lsbuild.packing.archive import ZIP_EPOCH, Member, with_folders, write_tar, write_tree
from lsbuild.packing.deb import control, members

TAR = "rootfs.tar"
_LINKS = ("bin", "sbin", "lib", "lib64")
_LIB = r"usr/lib/[a-z0-9_]+-linux-gnu/"
_DROP = re.compile(
    r"usr/share/(?!doc/[^/]+/copyright$|ca-certificates/mozilla/)|usr/s?bin/(?!python3\.\d+$)|usr/lib/binfmt\.d/|usr/games/"
    r"|etc/(cron|init\.d|default|logrotate|bash_completion|python3)"
    rf"|{_LIB}(gconv|engines-3|audit)/|{_LIB}(libBrokenLocale|libc_malloc_debug|libmemusage|libnsl|libnss_compat"
    r"|libnss_hesiod|libpcprofile|libthread_db)\.so"
    r"|usr/lib/python3\.\d+/(test|idlelib|turtledemo|tkinter|lib2to3|ensurepip|pydoc_data|config-[^/]*|_pyrepl)/"
    r"|usr/lib/python3\.\d+/(turtle|sitecustomize|antigravity|this)\.py"
    r"|usr/lib/python3\.\d+/lib-dynload/(readline|_curses\w*|_dbm|_gdbm|_tkinter|_test\w+|_ctypes_test|xx\w+|nis|_xx\w+)\."
)
"""What an image never runs or reads. Licence texts (``copyright``) stay: the packages may only be passed on with them."""


def extract(context: StepContext) -> Mapping[str, Json]:
    """Join the packages of source ``debs`` into ``out/rootfs.tar``: sorted, timeless, owned by root.

    The standard library is compiled by the Python in source ``tools`` (the same packages for this machine's architecture).
    Options: ``python`` ("3.13"), ``user`` (the numeric id that the image runs as), ``release`` ("13"). Raises SourceError
    for a package that is not as it should be and StepError when two packages bring the same file.
    """
    found = join(context.sources["debs"].files, context.progress)
    for member in settings(list(found.values()), int(context.options["user"]), context.options["release"]):
        _add(found, member, "lsbuild")
    library = f"usr/lib/python{context.options['python']}"
    bytes_of = compiled(found, library, context.sources["tools"], context.options["python"])
    found |= {member.path: member for member in bytes_of}
    with (context.out / TAR).open("wb") as stream:
        write_tar(stream, with_folders(found.values()), ZIP_EPOCH)
    packages = [posixpath.basename(deb.path) for deb in context.sources["debs"].files]
    return {"packages": packages, "files": len(found), "bytecode": len(bytes_of)}


def join(
    debs: Iterable[SourceFile],
    progress: Callable[[int, int, str], None],
    keep: Callable[[Iterable[Member]], Iterator[Member]] | None = None,
) -> dict[str, Member]:
    """What ``keep`` (default: ``kept``) takes of all packages, by path, and their control fields in ``var/lib/dpkg/status.d``.

    Raises SourceError for a damaged or hostile package, StepError when two of them cannot stand side by side.
    """
    found: dict[str, Member] = {}
    ordered = sorted(debs, key=lambda file: file.path)
    for done, deb in enumerate(ordered):
        progress(done, len(ordered), posixpath.basename(deb.path))
        for member in (keep or kept)(members(deb.location)):
            _add(found, member, deb.path)
        _add(found, Member(f"var/lib/dpkg/status.d/{_name(deb)}", control(deb.location)), deb.path)
    _check_links(found)
    return found


def bytecode(context: StepContext) -> Mapping[str, Json]:
    """Compile the .py files of the input ``code`` into ``out`` as ``__pycache__/*.pyc`` only.

    The compiling interpreter comes from source ``tools``: the bytecode is the image's own, whatever Python runs lsbuild.
    Options: ``python``.
    """
    return {
        "files": compile_tree(context.inputs["code"], context.out, context.sources["tools"], context.options["python"])
    }


def compile_tree(code: Path, out: Path, tools: Source, python: str, prefix: str = "") -> int:
    """Compile ``code`` into ``out`` with the Python of the packages ``tools``; returns the number of files.

    ``prefix`` stands before the relative path that tracebacks show. Raises StepError when that Python fails.
    """
    with tempfile.TemporaryDirectory(prefix="lsbuild-python-") as folder:
        root = Path(folder, "root")
        root.mkdir()
        needed = (file for file in tools.files if _INTERPRETER.match(_name(file)))
        write_tree(root, join(needed, lambda *_: None).values(), ZIP_EPOCH)
        command, env = interpreter(root, python)
        done = subprocess.run(  # noqa: S603 - the interpreter of a verified package
            [*command, "-S", "-s", "-P", "-B", "-c", _COMPILE, str(code), str(out), prefix],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise StepError(f"the image's Python could not compile its code: {done.stderr.strip()[-400:]}")
    return int(done.stdout)


_INTERPRETER = re.compile(r"(lib)?python3|libc6$|libexpat1$|zlib1g$")
"""The packages that an interpreter needs to compile; unpacking the others would only take time."""
_COMPILE = """
import os, py_compile, sys
source, out, prefix = sys.argv[1:]
count = 0
for folder, folders, names in os.walk(source):
    folders.sort()
    for name in sorted(names):
        if not name.endswith(".py"):
            continue
        path = os.path.relpath(os.path.join(folder, name), source)
        cached = os.path.join(out, os.path.dirname(path), "__pycache__", f"{name[:-3]}.{sys.implementation.cache_tag}.pyc")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        try:
            py_compile.compile(os.path.join(folder, name), cached, dfile=prefix + path, doraise=True, invalidation_mode=mode)
        except (py_compile.PyCompileError, UnicodeDecodeError, ValueError):
            continue
        count += 1
print(count)
"""


def kept(found: Iterable[Member]) -> Iterator[Member]:
    """What of a package an image needs, at its place below ``/usr``; folders come from the files in them."""
    for member in found:
        first, _, rest = member.path.partition("/")
        path = f"usr/{member.path}" if first in _LINKS and rest else member.path
        is_folder = member.content is None and not member.link
        if is_folder or path in _LINKS or _DROP.match(path) or "/__pycache__/" in path:
            continue
        yield Member(path, member.content, member.mode & 0o755, member.link)


def settings(found: Iterable[Member], user: int, release: str) -> Iterator[Member]:
    """The few files that maintainer scripts or a person would have written."""
    certificates = sorted(
        (member.path, member.content)
        for member in found
        if member.path.startswith("usr/share/ca-certificates/") and isinstance(member.content, bytes)
    )
    for name in _LINKS:
        yield Member(name, link=f"usr/{name}")
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "run", "var/lib", "var/cache"):
        yield Member(name, mode=0o755)
    yield Member("tmp", mode=0o1777)
    yield Member("var/tmp", mode=0o1777)
    yield Member("var/lib/lsbuild", mode=0o755, owner=user)
    yield Member("etc/passwd", f"root:x:0:0:root:/:/nologin\nlsbuild:x:{user}:{user}:lsbuild:/tmp:/nologin\n".encode())
    yield Member("etc/group", f"root:x:0:\nlsbuild:x:{user}:\n".encode())
    yield Member(
        "etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
    )
    # With this and status.d a scanner knows which packages the image is made of, as in distroless images.
    yield Member(
        "etc/os-release", f'PRETTY_NAME="Debian packages {release}"\nID=debian\nVERSION_ID="{release}"\n'.encode()
    )
    if certificates:
        bundle = b"".join(content.rstrip() + b"\n" for _, content in certificates)
        yield Member("etc/ssl/certs/ca-certificates.crt", bundle)
        yield Member("usr/lib/ssl/cert.pem", link="/etc/ssl/certs/ca-certificates.crt")


def compiled(found: Mapping[str, Member], library: str, tools: Source, python: str) -> list[Member]:
    """The bytecode of every .py file below ``library``, made by the Python of the packages ``tools``."""
    own = (
        replace(member, path=path.removeprefix(f"{library}/"))
        for path, member in found.items()
        if path.startswith(f"{library}/")
    )
    with tempfile.TemporaryDirectory(prefix="lsbuild-stdlib-") as folder:
        source, out = Path(folder, "source"), Path(folder, "out")
        source.mkdir()
        write_tree(source, (member for member in own if member.path.endswith(".py")), ZIP_EPOCH)
        compile_tree(source, out, tools, python, f"/{library}/")
        return [
            Member(f"{library}/{path.relative_to(out).as_posix()}", path.read_bytes())
            for path in sorted(out.rglob("*.pyc"))
        ]


def interpreter(root: Path, python: str) -> tuple[Sequence[str], Mapping[str, str]]:
    """Command and environment that run the Python of an unpacked root of this machine's architecture, without chroot."""
    env = {"PYTHONHOME": str(root / "usr"), "PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    return program(root, f"usr/bin/python{python}"), env


def program(root: Path, path: str, name: str = "") -> tuple[str, ...]:
    """What to write before the arguments of a program of such a root; ``name`` is what it shall think it is called."""
    libraries = next((root / "usr/lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux*.so.*"))
    return (str(loader), "--argv0", name or str(root / path), "--library-path", str(libraries), str(root / path))


def _add(found: dict[str, Member], member: Member, package: str) -> None:
    known = found.get(member.path)
    if known is not None and known != member and not member.path.startswith("usr/share/doc/"):
        raise StepError(f"two packages bring /{member.path}", where=package, hint="leave one out with `-NAME`")
    found[member.path] = member


def _check_links(found: Mapping[str, Member]) -> None:
    """No file may lie behind a symbolic link of another package: it would land where nobody looks."""
    for path in found:
        for parent in _parents(path):
            above = found.get(parent)
            if above is not None and (above.link or above.content is not None):
                raise StepError(
                    f"/{path} lies below /{parent}, which is no folder", hint="a package is damaged or hostile"
                )


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _name(deb: SourceFile) -> str:
    return posixpath.basename(deb.path).split("_", 1)[0]
