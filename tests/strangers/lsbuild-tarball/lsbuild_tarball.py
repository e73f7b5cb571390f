"""Target ``tarball``: one file that unpacks into a folder with ``run``; implements ``lsbuild.api.Target``."""

import gzip
import sys
import tarfile
from pathlib import Path
from platform import machine
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict

from lsbuild.api import SERVER_WHEELS, Artifact, Check, LsbuildError, Platform
from lsbuild.packing import archive, launcher, untar
from lsbuild.packing.boot import boot_and_ask, running
from lsbuild.packing.place import new_folder
from lsbuild_runtime.manifest import FILE_NAME, ManifestError, check_files, from_json, read

FILE = "artifact.tar.gz"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    folder: str = "lsbuild"  # targets.tarball.folder: what it unpacks into


class Tarball:
    name, wheels, Options = "tarball", SERVER_WHEELS, Options

    def platforms(self, options):
        return (Platform(machine(), f"{sys.version_info[0]}.{sys.version_info[1]}"),)

    def sources(self, options, platform):
        return {}

    def steps(self, options, platform, sources):
        return {}

    def pack(self, bundles, options, out):
        (bundle,) = bundles
        files = {
            file.path: archive.Member(f"{options.folder}/{file.path}", file.content, file.mode) for file in bundle.files
        }
        run = archive.Member(f"{options.folder}/run", launcher.script(bundle.platform), 0o755)
        members = [files.pop(FILE_NAME), *files.values(), run]  # the manifest first: it is read alone
        archive.check_paths(member.path for member in members)
        mtime = archive.source_date_epoch()
        with new_folder(out, lambda path: bool(self.manifests(path))) as folder:
            with (folder / FILE).open("xb") as raw, archive.gzip_stream(raw) as packed:
                archive.write_tar(packed, members, mtime)
            archive.normalise(folder, mtime)
        size = (out / FILE).stat().st_size
        return Artifact(out, archive.tree_sha256(out), size, "tar", {FILE: size})

    def manifests(self, artifact):
        try:
            with tarfile.open(artifact / FILE) as tar:
                return (from_json(tar.extractfile(tar.next()).read()),)
        except (OSError, tarfile.TarError, ManifestError, AttributeError):
            return ()  # none of ours

    def verify(self, artifact, ask):
        with TemporaryDirectory() as scratch:
            try:
                with gzip.open(artifact / FILE) as stream:
                    untar.extract(stream, Path(scratch), FILE)
                (root,) = Path(scratch).iterdir()
                check_files(root, read(root).files)
            except (LsbuildError, ManifestError, OSError, ValueError) as error:
                yield Check("files", False, str(error))
                return
            yield Check("files", True, "every file is what the manifest says")
            command = (root / "run", "--host", "127.0.0.1", "--port", "0")
            with running(command, root, {"PATH": "/usr/bin:/bin", "LSBUILD_PYTHON": sys.executable}) as started:
                yield from boot_and_ask(started, 120, ask)
            yield Check.unproved("that it starts on another machine")


TARGET = Tarball()
