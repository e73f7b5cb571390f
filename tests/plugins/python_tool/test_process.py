"""A tool's process: what a function may and may not do, how that is told, and that the server is never harmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import lsbuild_plugins.python_tool.serve.process as process
from lsbuild_plugins.python_tool.compile import functions
from lsbuild_plugins.python_tool.serve import open_tools
from lsbuild_runtime.http import ApiError, Cancelled, Context
from lsbuild_runtime.manifest import Service
from lsbuild_runtime.tools import ToolResult
from lsbuild_runtime.watch import JsonWatch

TOOL = '''
from __future__ import annotations
import ctypes, dataclasses, datetime, enum, os, signal, socket, subprocess, sys, threading, time
from typing import Optional, TypedDict

class Unit(enum.Enum):
    BAR = "bar"
    PSI = "psi"

@dataclasses.dataclass
class Box:
    x: float
    when: datetime.date | None = None

class Site(TypedDict, total=False):
    unit: Unit

count = 0

def add(a: float, unit: Unit = Unit.BAR, box: Optional[Box] = None, site: Site | None = None, tags: set[str] = set()) -> dict:
    """Adds."""
    assert isinstance(a, float) and isinstance(unit, Unit) and isinstance(tags, set)
    assert box is None or isinstance(box, Box)
    assert site is None or isinstance(site["unit"], Unit)
    return {"a": a, "unit": unit, "box": box, "tags": tags}

def counted() -> int:
    """Counts."""
    global count
    count += 1
    return count

def say(text: str) -> str:
    """Says."""
    print("printed", text)
    return text

def nothing() -> None:
    """Nothing."""

async def later() -> str:
    """Later."""
    import asyncio
    await asyncio.sleep(0)
    return "later"

def environment() -> dict[str, str]:
    """Environment."""
    return dict(os.environ)

def folder() -> list[str]:
    """Folder."""
    found = os.listdir(".")
    with open("left", "w") as stream:
        stream.write("x")
    return found

def wait(seconds: float) -> str:
    """Waits."""
    time.sleep(seconds)
    return "waited"

def spin() -> None:
    """Never ends."""
    while True:
        pass

def fork() -> int:
    """Forks."""
    return os.fork()

def bomb() -> int:
    """Forks and forks."""
    done = 0
    for _ in range(1000):
        try:
            os.fork()
            done += 1
        except OSError:
            pass
    return done

def program() -> bytes:
    """Starts a program."""
    return subprocess.check_output(["id"])

def become() -> None:
    """Becomes another program."""
    os.execv(sys.executable, [sys.executable])

def kill_the_server() -> None:
    """Kills."""
    os.kill(os.getppid(), signal.SIGKILL)

def secrets_of_the_server() -> str:
    """Reads."""
    with open(f"/proc/{os.getppid()}/environ") as stream:
        return stream.read()

def read(path: str) -> str:
    """Reads."""
    with open(path) as stream:
        return stream.read()

def write(path: str, size: int) -> int:
    """Writes."""
    with open(path, "wb") as stream:
        return stream.write(bytes(size))

def open_many() -> int:
    """Opens."""
    kept = [open("/dev/null") for _ in range(1000)]
    return len(kept)

def connect(port: int) -> str:
    """Connects."""
    socket.create_connection(("127.0.0.1", port), 2).close()
    return "connected"

def raw_connect() -> int:
    """Connects past Python."""
    return ctypes.CDLL(None).socket(2, 1, 0)

def threaded() -> int:
    """Threads."""
    found = []
    thread = threading.Thread(target=lambda: found.append(1))
    thread.start()
    thread.join()
    return len(found)

def allocate() -> int:
    """Allocates."""
    return len(bytearray(4 << 30))

def print_much() -> str:
    """Prints."""
    block = b"x" * (1 << 22)
    for _ in range(256):
        os.write(1, block)
    return "done"

def give_much() -> str:
    """Gives."""
    return "x" * (1 << 22)

def fail(path: str) -> None:
    """Raises."""
    raise ValueError(f"cannot read '{path}', see https://example.com/etc/help and 3/4")

def half(raises: bool) -> str:
    """Half a character."""
    if raises:
        raise ValueError("a\\udcff")
    return "a\\udcff \\ud83d\\ude00"

def leave() -> None:
    """Leaves."""
    sys.exit(3)

def vanish() -> None:
    """Vanishes."""
    os._exit(4)

def crash() -> None:
    """Crashes."""
    ctypes.string_at(0)

def deep() -> int:
    """Deep."""
    return deep()

def thing() -> object:
    """No JSON."""
    return object()

def nan() -> float:
    """No JSON either."""
    return float("nan")

def itself() -> list:
    """Nor that."""
    found: list = []
    found.append(found)
    return found

def interrupt() -> None:
    """Interrupts."""
    raise KeyboardInterrupt

def closes() -> str:
    """Closes every pipe."""
    os.closerange(3, 4096)
    return "closed"

def garbles() -> str:
    """Writes into every pipe."""
    for number in range(3, 4096):
        try:
            os.write(number, b"\\xff" * 64)
        except OSError:
            pass
    return "garbled"
'''


class Tools:
    """The tools of TOOL as they are served, with the log of the last call."""

    def __init__(self, root: Path, **config: Any) -> None:
        settings = {"timeout": 20.0, "memory": 1 << 29, "output": 1 << 16, "file": 1 << 20, **config}
        told = {"tools": [each["name"] for each in WRITTEN], "sends": "nothing", "trusted": False, "approval": "never"}
        service = Service(
            api="tool_runtime",
            name="t",
            provider="inline::python",
            entry="",
            path="tools/t",
            config=settings,
            metadata=told,
        )
        self.tools = open_tools(service, root, None)  # type: ignore[arg-type]
        self.log: dict[str, Any] = {}

    def __call__(self, name: str, context: Context | None = None, **arguments: Any) -> ToolResult:
        lines: list[str] = []
        context = context or Context()
        watch = context.watch = JsonWatch("r", lines.append)
        try:
            with watch.span("call"):
                return self.tools.call(name, arguments, context)
        finally:
            self.log = json.loads(lines[0])


WRITTEN = [each._asdict() for each in functions.read(TOOL, "tool.py")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("bundle")
    folder = found / "tools" / "t"
    folder.mkdir(parents=True)
    (folder / "tool.py").write_text(TOOL)
    (folder / "tools.json").write_text(json.dumps(WRITTEN))
    return found


@pytest.fixture(scope="module")
def tools(root: Path) -> Iterator[Tools]:
    found = Tools(root, env={"PUMP_KEY": "k"})
    yield found
    found.tools.close()


def test_arguments_get_their_types_and_results_are_json(tools: Tools) -> None:
    result = tools("add", a=1, unit="psi", box={"x": 2, "when": "2026-01-02"}, site={"unit": "bar"}, tags=["b", "a"])
    expected = {"a": 1.0, "unit": "psi", "box": {"x": 2.0, "when": "2026-01-02"}, "tags": ["a", "b"]}
    assert result.structured == json.loads(result.text) == expected and not result.failed
    assert tools("later").text == "later" and tools("nothing").text == "null"


def test_one_process_is_kept_warm(tools: Tools) -> None:
    assert [tools("counted").structured for _ in range(3)] == [1, 2, 3]
    assert "limits" in tools.log["lsbuild.tool.isolation"]


def test_what_it_prints_goes_to_the_log(tools: Tools) -> None:
    assert tools("say", text="äh").text == "äh"
    assert tools.log["lsbuild.tool.output"] == "printed äh\n"


def test_it_sees_no_environment_but_its_own(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "k" in tools("environment").text
    allowed = {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_CTYPE",
        "TZ",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "PUMP_KEY",
    }
    assert set(tools("environment").structured) <= allowed


def test_each_call_has_an_empty_folder(tools: Tools) -> None:
    assert tools("folder").structured == [] == tools("folder").structured


ABUSES: Mapping[str, tuple[dict[str, Any], str]] = {
    "fork": ({}, "PermissionError"),
    "program": ({}, "PermissionError"),
    "become": ({}, "PermissionError"),
    "kill_the_server": ({}, "PermissionError"),
    "open_many": ({}, "OSError: [Errno 24]"),
    "allocate": ({}, "more memory"),
    "give_much": ({}, "at most 65536 are taken"),
    "leave": ({}, "it called sys.exit(3)"),
    "vanish": ({}, "exit code 4"),
    "crash": ({}, "died of SIGSEGV"),
    "deep": ({}, "RecursionError"),
    "thing": ({}, "it gave a object, which is not JSON"),
    "nan": ({}, "not JSON compliant"),
    "itself": ({}, "RecursionError"),
    "interrupt": ({}, "KeyboardInterrupt"),
    "closes": ({}, "its process ended"),
    "garbles": ({}, "was stopped"),
    "connect": ({"port": 9}, "PermissionError"),
    "write": ({"path": "big", "size": 1 << 22}, "File too large"),
}


@pytest.mark.parametrize("name", ABUSES)
def test_an_abuse_is_a_failed_result_and_the_next_call_works(tools: Tools, name: str) -> None:
    arguments, says = ABUSES[name]
    result = tools(name, **arguments)
    assert result.failed and says in result.text and result.text.startswith(f"{name} failed: ")
    assert tools("say", text="on").text == "on"


def test_a_fork_bomb_forks_nothing(tools: Tools) -> None:
    assert tools("bomb").structured == 0 and tools("threaded").structured == 1


def test_a_call_past_python_gets_no_socket(tools: Tools) -> None:
    assert tools("raw_connect").structured == -1


@pytest.mark.parametrize("path", ["/etc/shadow", "/proc/1/environ", "/proc/{server}/environ", __file__])
def test_files_of_this_machine_cannot_be_read(tools: Tools, path: str) -> None:
    assert (
        "landlock" in tools("say", text="x").text
        or "landlock" in tools.log["lsbuild.tool.isolation"]
        or pytest.skip("no Landlock")
    )
    path = path.replace("{server}", str(os.getpid()))
    result = tools("read", path=path)
    assert result.failed and "Permission" in result.text
    assert tools("secrets_of_the_server").failed and tools("write", path=f"{path}.x", size=1).failed


def test_what_the_spec_lets_it_read_it_reads(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("pressure")
    tools = Tools(root, read=[str(tmp_path)])
    assert tools("read", path=str(tmp_path / "data.txt")).text == "pressure"
    assert tools("write", path=str(tmp_path / "data.txt"), size=1).failed
    tools.tools.close()


def test_with_network_it_connects(root: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        tools = Tools(root, network=True)
        assert tools("connect", port=server.getsockname()[1]).text == "connected"
        tools.tools.close()


def test_half_a_character_does_not_stop_it(tools: Tools) -> None:
    assert tools("half", raises=False).text == "a\ufffd \U0001f600"
    assert tools("half", raises=True).text == "half failed: ValueError: a\ufffd"


def test_a_gigabyte_of_output_is_counted_and_cut(root: Path) -> None:
    fresh = Tools(root)  # what an earlier call printed at its end may be read during the next
    try:
        assert fresh("print_much").text == "done"
        assert fresh.log["lsbuild.tool.output_bytes"] == 1 << 30
        assert len(fresh.log["lsbuild.tool.output"]) == process.LOGGED
    finally:
        fresh.tools.close()


def test_errors_name_no_path_of_this_machine(tools: Tools) -> None:
    said = tools("fail", path="/home/anna/secret/pump.db").text
    assert said == "fail failed: ValueError: cannot read 'pump.db', see https://example.com/etc/help and 3/4"
    assert "/" not in tools("read", path="/tmp/none/at.all").text


def test_a_call_that_runs_too_long_is_stopped(root: Path) -> None:
    tools = Tools(root, timeout=0.3)
    assert tools("spin").text == "spin failed: it ran for 0.3 s and was stopped"
    assert tools("say", text="on").text == "on"
    tools.tools.close()


def test_cancel_and_deadline_end_the_process(tools: Tools) -> None:
    context = Context()
    threading.Timer(0.2, context.cancel.set).start()
    with pytest.raises(Cancelled):
        tools("wait", context, seconds=60)
    with pytest.raises(ApiError, match="deadline"):
        tools("spin", Context(deadline=time.monotonic() + 0.2))
    assert tools("counted").structured == 1


def test_calls_at_the_same_time_wait_for_each_other(tools: Tools) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda n=number: found.append((n, tools.tools.call("say", {"text": str(n)}, Context()).text))
        )
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(number, str(number)) for number in range(16)]


def test_an_unknown_function_is_no_call(tools: Tools) -> None:
    with pytest.raises(ApiError, match="no tool '_private'"):
        tools("_private")


def test_a_file_that_cannot_be_loaded_is_told(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "t"
    folder.mkdir(parents=True)
    (folder / "tool.py").write_text(TOOL + "\nimport nowhere_at_all\n")
    (folder / "tools.json").write_text(json.dumps(WRITTEN))
    result = Tools(tmp_path)("say", text="x")
    assert result.failed and "cannot be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'" in result.text


def test_without_a_place_for_its_folder_it_runs_and_writes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")  # as on a disk that nobody may write to
    tools = Tools(root)
    assert tools("say", text="x").text == "x" and tools("write", path="a", size=1).failed
    tools.tools.close()


STARTER = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from lsbuild_plugins.python_tool.serve.process import Process, Settings
from lsbuild_runtime.http import Context
p = Process(Settings(sys.argv[2], 60.0, 1 << 29, 1 << 16, 1 << 20))
print(p.call("environment", {}, Context())["HOME"], flush=True)
print(p._running._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, None])
def test_it_ends_with_the_server(root: Path, end: signal.Signals | None) -> None:
    paths = ":".join(path for path in sys.path if path)
    server = subprocess.Popen(
        [sys.executable, "-c", STARTER, paths, str(root / "tools/t/tool.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None and server.stdin is not None
    folder, pid = Path(server.stdout.readline().strip()), int(server.stdout.readline())
    watched = os.pidfd_open(pid)
    if end:
        server.send_signal(end)
    server.stdin.close()
    server.wait(20)
    server.stdout.close()
    import select

    assert select.select([watched], [], [], 20)[0], "the tool's process outlived the server"
    os.close(watched)
    assert (not folder.exists()) if end is None else (not list(folder.iterdir()))
    folder.rmdir() if folder.exists() else None


WITHOUT = """
import ctypes, os, struct, sys
sys.path.insert(0, sys.argv[1])
import confine
numbers = {"x86_64": (272, 157), "aarch64": (97, 167)}[os.uname().machine]
program = [confine._load(0)]
for number in (numbers[0], 444):
    program += [confine._jump(0x15, number, 0, 1), confine._answer(1)]
program += [confine._jump(0x15, numbers[1], 0, 4), confine._load(16)]
program += [confine._jump(0x15, 22, 0, 1), confine._answer(1), confine._load(0)]
program.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
held = ctypes.create_string_buffer(b"".join(program))
confine._LIBC.prctl(38, 1, 0, 0, 0)
assert confine._LIBC.prctl(22, 2, struct.pack("HxxxxxxQ", len(program), ctypes.addressof(held)), 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
"""
BARE = """
import json, sys
sys.path[:0] = sys.argv[1].split(":")
from lsbuild_plugins.python_tool.serve.process import Process, Settings, Failed
from lsbuild_runtime.http import Context
p = Process(Settings(sys.argv[2], 20.0, 1 << 29, 1 << 16, 1 << 20))
said = {"say": p.call("say", {"text": "x"}, Context()), "layers": list(p._running.layers)}
for name, arguments in (("connect", {"port": 9}), ("allocate", {}), ("crash", {})):
    try:
        said[name] = p.call(name, arguments, Context())
    except Failed as error:
        said[name] = str(error)
print(json.dumps(said))
p.close()
"""


def test_where_the_kernel_refuses_its_layers_the_rest_holds(root: Path) -> None:
    """As in a container whose profile allows neither namespaces nor Landlock nor filters."""
    serve = Path(process.__file__).parent
    paths = ":".join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(serve), BARE, paths, str(root / "tools/t/tool.py")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["layers"] == ["limits", "capabilities", "audit"] and said["say"] == "x"
    assert "this tool has no network" in said["connect"]
    assert "more memory" in said["allocate"] and "SIGSEGV" in said["crash"]
