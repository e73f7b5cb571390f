"""Which file of a bundle goes where: into the function, a layer, or refused; pure but for the sizes it reads."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsbuild.api import Bundle, File, Manifest, TargetError
from lsbuild.packing.archive import Member, file_sha256
from lsbuild_targets.aws_lambda import options as limits
from lsbuild_targets.aws_lambda import own_python
from lsbuild_targets.aws_lambda.options import Options

LAYER_ROOT = "lsbuild"
"""Folder of a layer; Lambda lays all of them below /opt."""
LAYERS = (("wheels", "layer-wheels.zip"), ("model", "layer-models.zip"), ("index", "layer-indexes.zip"))
"""Part of a bundle -> the layer that holds it, so that a change of code does not ship the weights again."""
START = (
    "import sys; task, layers = sys.argv[1:3]; "
    "sys.path[:0] = [task + '/app', layers + '/site', task + '/site']; "
    "from lsbuild_runtime.serve.aws_lambda.main import main; sys.exit(main(task, layers))"
)
"""What is run after ``python -I -S -B -c``; its arguments are the folders of the function and of the layers."""
FLAGS = ("-I", "-S", "-B", "-X", "utf8", "-c")
_MANAGED = """#!/bin/sh
# Lambda runs this in place of its own client (AWS_LAMBDA_EXEC_WRAPPER); its first argument is the runtime's Python.
exec "$1" {flags} {start} "$LAMBDA_TASK_ROOT" "${{LSBUILD_LAYERS:-/opt/lsbuild}}"
"""


@dataclass(frozen=True, slots=True)
class Pack:
    """The members of one zip, and how many bytes they are."""

    file: str
    members: tuple[Member, ...]
    unzipped: int

    @property
    def content(self) -> str:
        """One sha256 for all paths, modes and bytes."""
        digest = hashlib.sha256()
        for member in self.members:
            data = member.content
            sha256 = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else file_sha256(data or Path())
            digest.update(f"{member.path}\0{member.mode:o}\0{sha256}\n".encode())
        return digest.hexdigest()


def packs(bundle: Bundle, options: Options, python: Iterable[Member] = ()) -> tuple[Pack, ...]:
    """The function and its layers, the function first; ``python`` are the files of a Python of our own."""
    homes = _homes(bundle.files)
    layered: dict[str, list[Member]] = {name: [] for _, name in LAYERS}
    own = [Member("bootstrap", bootstrap(options), 0o755), Member("lambda.json", settings(bundle.manifest, options))]
    for file in bundle.files:
        home = homes[file.path.partition("/")[0]]
        if home:
            layered[home].append(Member(f"{LAYER_ROOT}/{file.path}", file.content, file.mode))
        else:
            own.append(Member(file.path, file.content, file.mode))
    layered["layer-python.zip"] = [*python]
    made = [_pack("function.zip", own)]
    return (*made, *(_pack(name, members) for name, members in layered.items() if members))


def refuse_mutable(manifest: Manifest) -> None:
    """Raise TargetError for a store that would be written to inside the function: nothing stays there."""
    for service in manifest.services:
        if service.provider.startswith("inline::") and service.metadata.get("mutable") is True:
            raise TargetError(
                f"the store {service.name!r} is mutable, and a function keeps nothing between two sandboxes",
                where=f"vector_stores.{service.name}",
                hint=f"set targets.lambda.vector_stores.{service.name}.mutable: false, or use remote::pgvector",
            )


def settings(manifest: Manifest, options: Options) -> bytes:
    """``lambda.json``, which the runtime reads beside the manifest. Raises TargetError for a name that is not served."""
    stream = [*(["function-url"] if options.stream else []), *(["rest-api"] if options.rest_stream else [])]
    value = {"namespace": options.namespace, "stream": stream, "preload": list(_preload(manifest, options.preload))}
    return json.dumps(value, indent=2).encode() + b"\n"


def bootstrap(options: Options) -> bytes:
    """The script that Lambda starts."""
    if options.runtime == "provided":
        return own_python.bootstrap(options, shlex.join(FLAGS), shlex.quote(START))
    return _MANAGED.format(flags=shlex.join(FLAGS), start=shlex.quote(START)).encode()


def largest(files: Iterable[File], count: int = 5) -> str:
    """The largest files with their sizes, for people."""
    sized = sorted(((size_of(file.content), file.path) for file in files), reverse=True)[:count]
    return ", ".join(f"{path} {size / 1e6:.1f} MB" for size, path in sized)


def size_of(content: Path | bytes) -> int:
    """Bytes of a file that is to be packed."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _pack(name: str, members: Iterable[Member]) -> Pack:
    ordered = tuple(sorted(members, key=lambda member: member.path))
    return Pack(name, ordered, sum(size_of(member.content) for member in ordered if member.content is not None))


def _homes(files: Iterable[File]) -> dict[str, str]:
    """First folder of a path -> its layer, "" for the function: the part that most of its bytes belong to decides.

    A folder is never divided: in the sandbox it is one link.
    """
    by_folder: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for file in files:
        top, below, _ = file.path.partition("/")
        by_folder[top][file.part if below else "app"] += size_of(file.content)
    known = dict(LAYERS)
    return {
        top: known.get(max(sorted(parts), key=lambda part, sizes=parts: sizes[part]), "")  # type: ignore[misc]
        for top, parts in by_folder.items()
    }


def _preload(manifest: Manifest, wanted: tuple[str, ...] | None) -> Iterator[str]:
    inside = [service for service in manifest.services if service.provider.startswith("inline::")]
    names = {service.name for service in manifest.services}
    if unknown := sorted(set(wanted or ()) - names):
        raise TargetError(
            f"{unknown[0]!r} is nothing that this spec serves",
            where="targets.lambda.preload",
            hint=f"name some of: {', '.join(sorted(names))}",
        )
    for service in inside if wanted is None else manifest.services:
        if wanted is None or service.name in wanted:
            yield f"{service.api}/{service.name}"


def fits(packed: Iterable[Pack]) -> int:
    """Bytes that are left of Lambda's limit; negative when it is exceeded."""
    return limits.UNZIPPED - sum(pack.unzipped for pack in packed)
