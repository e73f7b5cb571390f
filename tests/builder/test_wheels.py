"""Wheels: naming, unpacking, trimming that was really tried, native checks."""

from __future__ import annotations

import hashlib
import platform as machine
import struct
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from lsbuild import prune, wheels
from lsbuild.api import Platform, Source, SourceError, SourceFile, Step, StepContext, TargetError
from lsbuild.packing import elf
from lsbuild.packing.native import Found, require
from lsbuild.sources.wheels import _parse, fetch

HERE = Platform(machine.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}", "2.40")


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> SourceFile:
    place = folder / name
    with zipfile.ZipFile(place, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return locked(place)


def locked(place: Path) -> SourceFile:
    data = place.read_bytes()
    return SourceFile(place.name, place, hashlib.sha256(data).hexdigest(), len(data))


def unpack(tmp_path: Path, *files: SourceFile, platform: Platform = HERE) -> tuple[Path, dict[str, Any]]:
    uri = wheels.source_uri(platform, ["x"])
    step = wheels.step(platform, uri, Source(uri, files))
    out = tmp_path / "out"
    out.mkdir()
    facts = wheels.unpack(StepContext(out, step.options, step.sources, {}, lambda _done, _total, _label: None))
    return out, dict(facts)


def test_the_uri_is_canonical_and_can_be_read_back() -> None:
    platform = Platform("aarch64", "3.12", "2.34")
    uri = wheels.source_uri(platform, ["uvicorn >= 0.35", "msgspec", "msgspec", "numpy[a]<3; python_version>'3'"])
    assert uri == wheels.source_uri(platform, ["numpy[a]<3; python_version>'3'", "msgspec", "uvicorn>=0.35"])
    assert uri.startswith("wheels:linux-aarch64-cp312-glibc2.34?msgspec&numpy")
    wanted = _parse(uri.removeprefix("wheels:"), uri)
    assert wanted.requirements == ("msgspec", "numpy[a]<3;python_version>'3'", "uvicorn>=0.35")
    assert (wanted.arch, wanted.python, wanted.glibc) == ("aarch64", "3.12", (2, 34))
    assert wanted.for_uv()[:2] == ["--python-platform", "aarch64-manylinux_2_34"]
    assert "manylinux_2_34_aarch64" in wanted.for_pip()
    assert "manylinux_2_35_aarch64" not in wanted.for_pip()
    assert fetch.__module__ == "lsbuild.sources.wheels"


def test_the_step_depends_on_platform_and_running_python() -> None:
    def options(platform: Platform) -> Step:
        return wheels.step(platform, "u", Source("u", ()))

    assert options(HERE).options["bytecode"]
    assert options(Platform("x86_64", "3.99")).options["bytecode"] == ""
    assert options(HERE).ship == "site"
    assert options(HERE).part == "wheels"


def test_a_wheel_is_unpacked_with_bytecode(tmp_path: Path) -> None:
    files = {
        "demo/__init__.py": b"x = 1\n",
        "demo/data.bin": b"\0",
        "demo-1.0.dist-info/METADATA": b"Name: demo\n",
        "demo-1.0.data/purelib/more.py": b"y = 2\n",
        "demo-1.0.data/scripts/run": b"#!python\n",
    }
    out, facts = unpack(tmp_path, wheel(tmp_path, "demo-1.0-py3-none-any.whl", files))
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
    assert found == [
        "__pycache__/more." + tag + ".pyc",
        "demo-1.0.dist-info/METADATA",
        "demo/__init__.py",
        f"demo/__pycache__/__init__.{tag}.pyc",
        "demo/data.bin",
        "more.py",
    ]
    assert facts == {"wheels": {"demo": "1.0"}, "pruned": 0, "glibc": "0.0", "bytecode": 2}


def test_another_python_gets_no_bytecode_and_is_told(tmp_path: Path) -> None:
    one = wheel(tmp_path, "demo-1.0-py3-none-any.whl", {"demo.py": b"x = 1\n"})
    out, facts = unpack(tmp_path, one, platform=Platform(HERE.arch, "3.99"))
    assert facts["bytecode"] is None
    assert not list(out.rglob("*.pyc"))


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\evil.py"])
def test_a_wheel_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    one = wheel(tmp_path, "evil-1.0-py3-none-any.whl", {name: b"x"})
    with pytest.raises(SourceError, match="which no honest wheel has"):
        unpack(tmp_path, one)
    assert not (tmp_path / "evil.py").exists()


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(SourceError, match="which no honest wheel has"):
        unpack(tmp_path, locked(place))


def test_damaged_and_colliding_wheels_are_refused(tmp_path: Path) -> None:
    one = wheel(tmp_path, "a-1.0-py3-none-any.whl", {"same.py": b"1"})
    other = wheel(tmp_path, "b-1.0-py3-none-any.whl", {"same.py": b"2"})
    (tmp_path / "x").mkdir()
    with pytest.raises(SourceError, match=r"b-1\.0-py3-none-any\.whl: brings another same\.py"):
        unpack(tmp_path / "x", one, other)
    one.location.write_bytes(b"PK damaged")
    with pytest.raises(SourceError, match="the cached file is damaged"):
        unpack(tmp_path, one)
    broken = tmp_path / "c-1.0-py3-none-any.whl"
    broken.write_bytes(b"PK damaged")
    (tmp_path / "y").mkdir()
    with pytest.raises(SourceError, match="not a readable wheel"):
        unpack(tmp_path / "y", locked(broken))
    with pytest.raises(SourceError, match="not the name of a wheel"):
        wheels.split_name("x.tar.gz")


def header(bits: int, kind: int) -> bytes:
    head = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1]) + bytes(9) + struct.pack("<HHI", 3, kind, 1)
    return head + bytes(200)


def test_elf_files_are_read(tmp_path: Path) -> None:
    own = elf.read(Path(sys.executable).resolve())
    assert own is not None
    assert (own.bits, own.machine) == (64, machine.machine())
    assert (tmp_path / "x").write_bytes(header(32, 40))
    assert elf.read(tmp_path / "x") == elf.Elf(32, "arm", (0, 0))
    (tmp_path / "x").write_bytes(b"#!/bin/sh\n")
    assert elf.read(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(b"\x7fELF\x02\x01")
    with pytest.raises(ValueError, match="not a whole ELF file"):
        elf.read(tmp_path / "x")


def native(name: str) -> Path:
    listed = distribution(name).files or []
    return Path(str(next(file for file in listed if file.name.endswith(".so")).locate()))


def test_glibc_is_what_the_linker_needs() -> None:
    found = elf.read(native("msgspec"))
    assert found is not None
    told = subprocess.run(["objdump", "-T", str(native("msgspec"))], capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip("objdump is not installed")
    versions = {tuple(map(int, word.split("_")[1].strip("()").split(".")[:2])) for word in told.stdout.split()
                if word.strip("()").startswith("GLIBC_2")}  # fmt: skip
    assert found.glibc == max(versions)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(32, 40), r"demo/x\.so: is built for 32-bit arm, the platform is"),
        (header(64, 243), r"is built for 64-bit riscv64"),
        (b"\x7fELF\x02\x01", "not a whole ELF file"),
    ],
)
def test_native_files_for_another_machine_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    one = wheel(tmp_path, "demo-1.0-py3-none-any.whl", {"demo/x.so": data})
    with pytest.raises(TargetError, match=message):
        unpack(tmp_path, one)


def test_a_newer_glibc_is_refused_with_both_versions(tmp_path: Path) -> None:
    one = wheel(tmp_path, "demo-1.0-py3-none-any.whl", {"demo/x.so": native("msgspec").read_bytes()})
    with pytest.raises(TargetError, match=r"needs glibc 2\.\d+, the platform has 2\.1"):
        unpack(tmp_path, one, platform=Platform(HERE.arch, HERE.python, "2.1"))


def test_an_unknown_wheel_ships_whole_and_a_known_one_does_not() -> None:
    beside = ("numpy", "onnxruntime")
    assert prune.keeps("unknown", "unknown/tests/test_x.py", beside)
    assert not prune.keeps("numpy", "numpy/_core/tests/test_x.py", beside)
    assert prune.keeps("numpy", "numpy/_core/multiarray.py", beside)
    assert prune.keeps("numpy", "numpy.libs/libscipy_openblas64_.so", beside)
    assert prune.keeps("SQLite_Vec", "sqlite_vec/vec0.so", beside)


@pytest.mark.parametrize("numpy", [True, False])
def test_one_of_the_two_engines_of_onnxruntime_ships(numpy: bool) -> None:
    beside = ("numpy", "onnxruntime") if numpy else ("onnxruntime",)
    library = "onnxruntime/capi/libonnxruntime.so.1.31.1"
    module = "onnxruntime/capi/onnxruntime_pybind11_state.cpython-313-x86_64-linux-gnu.so"
    assert prune.keeps("onnxruntime", library, beside) is not numpy
    assert prune.keeps("onnxruntime", module, beside) is numpy
    assert prune.keeps("onnxruntime", "onnxruntime/__init__.py", beside) is numpy
    assert prune.keeps("onnxruntime", "onnxruntime/capi/libonnxruntime_providers_shared.so", beside) is numpy
    assert prune.keeps("onnxruntime", "onnxruntime/LICENSE", beside)


@pytest.mark.parametrize("beside", [(), ("numpy",)])
def test_a_wheel_is_told_what_other_steps_put_beside_it(tmp_path: Path, beside: tuple[str, ...]) -> None:
    files = {"onnxruntime/__init__.py": b"", "onnxruntime/capi/libonnxruntime.so.1": b"not ELF"}
    source = Source("u", (wheel(tmp_path, "onnxruntime-1.31.1-cp313-cp313-linux_aarch64.whl", files),))
    step = wheels.step(HERE, "wheels:x", source, beside=beside)
    (tmp_path / "out").mkdir()
    wheels.unpack(StepContext(tmp_path / "out", step.options, step.sources, {}, lambda *_: None))
    kept = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert ("onnxruntime/__init__.py" in kept) is bool(beside)
    assert ("onnxruntime/capi/libonnxruntime.so.1" in kept) is not bool(beside)


TRY = """
import sys
sys.path.insert(0, {site!r})
import apsw, click, httptools, minijinja, msgspec, numpy, numpy.typing, onnxruntime, tokenizers, uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, processors, normalizers
numpy.random.default_rng(1).normal(size=3)
numpy.linalg.svd(numpy.eye(3))
numpy.fft.fft(numpy.ones(4))
numpy.save(sys.argv[2], numpy.ma.masked_array([1, 2]).filled())
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(product,) = session.run(None, {{"x": numpy.ones((2, 2), numpy.float32)}})
assert (product == 2).all()
binding = session.io_binding()
binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(numpy.ones((2, 2), numpy.float32)))
binding.bind_output("y")
session.run_with_iobinding(binding)
connection = apsw.Connection(":memory:")
connection.enable_load_extension(True)
connection.load_extension({site!r} + "/sqlite_vec/vec0.so")
assert connection.execute("select vec_version()").get
tokens = connection.fts5_tokenizer("porter", ["unicode61"])(b"two pumps", apsw.FTS5_TOKENIZE_QUERY, None)
assert [token for *_, token in tokens] == ["two", "pump"]
assert msgspec.json.decode(b"[1]") == [1]
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics
import io
Logger(service="s", stream=io.StringIO()).info("x", extra={{"y": 1}})
Metrics(namespace="n", service="s").add_metric(name="m", unit="Count", value=1)
import urllib3, urllib3.util
assert urllib3.PoolManager(timeout=urllib3.Timeout(connect=1), retries=urllib3.Retry(0)).pools is not None
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
letters = tokenizers.Tokenizer(models.BPE(vocab={{sign: number for number, sign in enumerate("ab<")}}, merges=[]))
letters.add_special_tokens(["<"])
letters.decoder = decoders.ByteLevel()
matcher = LLMatcher(LLTokenizer(letters.to_str()), LLMatcher.grammar_from_regex("a*b"), limits=LLParserLimits())
assert not matcher.get_error() and matcher.consume_token(0)
import stdnum.iban
assert stdnum.iban.is_valid("GB82 WEST 1234 5698 7654 32")
import jsonschema
schema = {{"$ref": "#/$defs/a", "$defs": {{"a": {{"type": "object", "properties": {{"n": {{"minimum": 1}}}}}}}}}}
assert len(list(jsonschema.Draft202012Validator(schema).iter_errors({{"n": 0}}))) == 1
jsonschema.Draft202012Validator.check_schema(schema)
outside = [name for name, module in sys.modules.items() if "site-packages" in (getattr(module, "__file__", None) or "")]
assert not outside, outside
print("ok")
"""

TRIED = (
    "apsw",
    "aws-lambda-powertools",
    "click",
    "httptools",
    "jsonschema",
    "jsonschema-specifications",
    "llguidance",
    "markupsafe",
    "minijinja",
    "msgspec",
    "numpy",
    "onnxruntime",
    "python-stdnum",
    "referencing",
    "sqlite-vec",
    "tokenizers",
    "urllib3",
    "uvicorn",
)


def test_there_is_no_rule_that_nobody_tried() -> None:
    """The wheel for GPUs is built like the one that is tried, and needs a GPU to be tried itself."""
    assert set(prune.RULES) - {"onnxruntime-gpu"} <= set(TRIED)
    assert set(prune.RULES["onnxruntime-gpu"]) <= set(prune.RULES["onnxruntime"])


def test_every_trimmed_distribution_still_imports_and_works(tmp_path: Path) -> None:
    """The rules of ``prune``, tried on what is installed: packed as wheels, trimmed, imported by a bare interpreter."""
    import onnx
    from onnx import TensorProto, helper

    files = []
    for name in (*TRIED, "attrs", "jmespath", "rpds-py", "typing-extensions"):
        dist = distribution(name)
        place = tmp_path / f"{name.replace('-', '_')}-{dist.version}-py3-none-any.whl"
        with zipfile.ZipFile(place, "w") as archive:
            for file in dist.files or []:
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    archive.write(str(file.locate()), file.as_posix())
        files.append(locked(place))
    out, facts = unpack(tmp_path, *files)
    assert facts["pruned"] > 40_000_000
    for left_out in ("onnxruntime/transformers", "numpy/f2py", "apsw/tests", "apsw/ext.py"):
        assert not (out / left_out).exists(), left_out

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx")
    script = TRY.format(site=str(out))
    words = [sys.executable, "-I", "-S", "-c", script, str(tmp_path / "m.onnx"), str(tmp_path / "a.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == "ok\n", done.stderr


def test_wheels_of_somebodys_own_are_whole(tmp_path: Path) -> None:
    platform = Platform("aarch64", "3.12", "2.34")
    uri = wheels.source_uri(platform, ["urllib3"], whole=True)
    assert uri == "wheels:linux-aarch64-cp312-glibc2.34/whole?urllib3"
    assert _parse(uri.removeprefix("wheels:"), uri).whole
    brought = wheel(
        tmp_path, "urllib3-2.0-py3-none-any.whl", {"urllib3/contrib/emscripten/x.py": b"", "urllib3/x.pyi": b""}
    )
    step = wheels.step(HERE, wheels.source_uri(HERE, ["x"], whole=True), Source("x", (brought,)), "tools/pump/site")
    assert (step.ship, step.part) == ("tools/pump/site", "wheels") and step.name == f"tools.pump.site.{HERE.tag}"
    out = tmp_path / "out"
    out.mkdir()
    wheels.unpack(StepContext(out, step.options, step.sources, {}, lambda _done, _total, _label: None))
    assert (out / "urllib3/contrib/emscripten/x.py").exists() and (out / "urllib3/x.pyi").exists()


def test_a_tool_says_which_python_it_needs() -> None:
    platform = Platform("x86_64", "3.11")
    for fits in ("", ">=3.11", ">=3.10,<4", ">=3.11.4", "==3.11.*"):
        wheels.require_python(platform, fits, "tools/pump/site")
    for not_, says in (
        (">=3.12", "needs Python >=3.12, the target linux-x86_64-cp311 has 3.11"),
        ("x", "no version specifier"),
    ):
        with pytest.raises(SourceError, match=says):
            wheels.require_python(platform, not_, "tools/pump/site")


def marked(level_bits: int) -> bytes:
    """A 64-bit x86 ELF file whose one segment is a note that names the x86-64 levels it needs."""
    properties = struct.pack("<III4x", 0xC0008002, 4, level_bits)
    note = struct.pack("<III4s", 4, len(properties), 5, b"GNU\0") + properties
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 120, 120, len(note), len(note), 8)
    return header + segment + note


@pytest.mark.parametrize(("bits", "level"), [(0b1, 1), (0b11, 2), (0b111, 3), (0b1111, 4)])
def test_the_level_that_a_file_needs_is_read_and_held_against_the_platform(
    tmp_path: Path, bits: int, level: int
) -> None:
    (tmp_path / "lib.so").write_bytes(marked(bits))
    read = elf.read(tmp_path / "lib.so")
    assert read is not None
    assert read.level == level
    assert require([tmp_path], "x86_64", "2.34", level) == Found(1, "0.0", level)
    with pytest.raises(TargetError, match=rf"level x86-64-v{level}, the platform promises v{level - 1}"):
        require([tmp_path], "x86_64", "2.34", level - 1)


def test_a_bundle_with_code_for_another_machine_is_refused(tmp_path: Path) -> None:
    from lsbuild.api import Bundle, File, Manifest
    from lsbuild.packing.native import check
    from lsbuild_runtime.manifest import Server

    (tmp_path / "lib.so").write_bytes(marked(0))
    manifest = Manifest(
        schema=1, name="n", lsbuild="0", target="host", platform="p", services=(), server=Server(), files=()
    )
    files = (File("tools/lib.so", tmp_path / "lib.so"), File("app/x.py", b"\x7fELF is only text here"))
    check(Bundle(Platform("x86_64", "3.13"), manifest, files))
    with pytest.raises(TargetError, match=r"is built for 64-bit x86_64, the platform is aarch64"):
        check(Bundle(Platform("aarch64", "3.13"), manifest, files))
