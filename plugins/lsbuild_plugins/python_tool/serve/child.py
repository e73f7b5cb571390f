"""The process that runs a tool's functions: gives up its rights, loads the file, answers calls over two pipes.

It is started as a file with ``python -I -S`` and imports the standard library only. Frames are four bytes of length (big
endian) and JSON. First it says ``{"ready": true, "layers": [...]}`` or ``{"error": ...}``; then for each
``{"id", "name", "arguments", "seconds"}`` it answers ``{"id", "value"}`` or ``{"id", "error"}``.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import resource
import select
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

_LONGEST_MESSAGE = 600


def main() -> None:
    """Serve calls until the server closes the pipe."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    requests, answers = int(settings["requests"]), int(settings["answers"])
    tool, work = Path(settings["tool"]), str(settings["work"])
    convert = _beside("convert")
    layers = _beside("confine").confine(
        memory=settings["memory"],
        file=settings["file"],
        network=settings["network"],
        read=[str(tool.parent), *settings["read"]],
        write=[work] if work else [],
    )
    threading.Thread(target=_end_with_the_server, args=(requests, work), daemon=True).start()
    hidden = _Hidden((str(tool.parent), work, sys.prefix, sys.base_prefix))
    sys.path.append(str(tool.parent / "site"))
    try:
        module = _loaded("lsbuild_tool", tool)
    except BaseException as error:  # whatever the file does when it is loaded
        _write(answers, {"error": f"it cannot be loaded: {hidden.told(error)}"})
        return
    _write(answers, {"ready": True, "layers": layers})
    while (call := _read(requests)) is not None:
        answer = _answer(module, convert, call, settings["output"], work, hidden)
        _write(answers, {"id": call["id"], **answer})


def _answer(module: Any, convert: Any, call: dict[str, Any], most: int, work: str, hidden: _Hidden) -> dict[str, Any]:
    """What the function gave, or one sentence about what it did instead."""
    _renew(work)
    used = resource.getrusage(resource.RUSAGE_SELF)
    # A call that outlives the server burns no more than this: the server itself stops it earlier.
    seconds = int(used.ru_utime + used.ru_stime + call["seconds"] + 2)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if hard < 0 else min(seconds, hard), hard))
    try:
        function = getattr(module, call["name"])
        value = function(**convert.arguments(function, call["arguments"]))
        if inspect.iscoroutine(value):
            import asyncio

            value = asyncio.run(value)
        text = json.dumps(convert.plain(value), ensure_ascii=False, allow_nan=False)
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > most:
            return {"error": f"it gave {size} bytes, at most {most} are taken; ask for less"}
        return {"value": json.loads(text)}
    except SystemExit as error:
        return {"error": f"it called sys.exit({error.code!r:.50})"}
    except MemoryError:
        return {"error": "it needs more memory than it may have"}
    except convert.NotJsonError as error:
        return {"error": str(error)}
    except RecursionError:
        return {"error": "RecursionError: it calls itself too deeply, or its result holds itself"}
    except BaseException as error:  # an answer in any case: the model is told, the server serves on
        traceback.print_exc()
        return {"error": hidden.told(error)}
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue


class _Hidden:
    """Takes the paths of this machine out of what is told."""

    def __init__(self, known: tuple[str, ...]) -> None:
        try:
            tops = [re.escape(path.name) for path in Path("/").iterdir()]
        except OSError:  # the usual, where the root cannot be listed
            tops = ["bin", "data", "etc", "home", "lib", "mnt", "opt", "proc", "root", "srv", "tmp", "usr", "var"]
        roots = [re.escape(path) for path in known if path and path != "/"] + [f"/(?:{'|'.join(tops)})"]
        self._path = re.compile(rf"""(?<![\w.:/])(?:{"|".join(roots)})(?:/[^\s'":;,)\]]*)?(?![\w-])""")

    def told(self, error: BaseException) -> str:
        """``ValueError: message`` without a path of this machine; of a file its name."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return self._path.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], text)[:_LONGEST_MESSAGE]


def _renew(work: str) -> None:
    """An empty working folder for each call."""
    if not work:
        return
    os.chdir("/")
    for place in Path(work).iterdir():
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink()
    os.chdir(work)


def _end_with_the_server(requests: int, work: str) -> None:
    poll = select.poll()
    poll.register(requests, 0)  # the end of the other side is always told
    poll.poll()
    _renew(work)
    os._exit(0)


def _beside(name: str) -> Any:
    return _loaded(f"lsbuild_{name}", Path(__file__).resolve().with_name(f"{name}.py"))


def _loaded(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up
    spec.loader.exec_module(module)
    return module


def _read(stream: int) -> dict[str, Any] | None:
    head = _exactly(stream, 4)
    if head is None:
        return None
    body = _exactly(stream, int.from_bytes(head, "big"))
    return json.loads(body) if body is not None else None


def _exactly(stream: int, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        piece = os.read(stream, size - len(data))
        if not piece:
            return None
        data += piece
    return data


def _write(stream: int, value: dict[str, Any]) -> None:
    # Half a character, as in the name of a file that is not UTF-8, is no JSON to others: it becomes U+FFFD.
    text = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    body = text.encode()
    data = memoryview(len(body).to_bytes(4, "big") + body)
    while data:
        data = data[os.write(stream, data) :]


if __name__ == "__main__":
    main()
