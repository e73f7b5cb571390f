"""The gate of a trial: the new version has to say that it is ready and to answer its questions, in time."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from lsbuild_runtime.updates.format import Question

READY = ("/v1/health", "/v1/ready")
_POLL_S = 0.5
_ANSWER_LIMIT = 16 << 20


def gate(
    base_url: str,
    questions: Sequence[Question],
    seconds: float,
    over: Callable[[], str],
    begun: Callable[[], bool],
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> str:
    """ "" when the version passed, else why not.

    Args:
        base_url: where it answers.
        questions: asked once it is ready, each once.
        seconds: how long all of it may take.
        over: why the trial is over already (it crashed and was taken back), or "".
        begun: whether the service was started with it: before that the old version may still answer.
        clock, wait: the time in seconds, and how to let it pass.
    """
    end = clock() + seconds
    while not begun():
        if reason := over():
            return reason
        if clock() >= end:
            return f"the service was not started within {seconds:.0f} s"
        wait(_POLL_S)
    for path in READY:
        while (answer := _ask(base_url, Question("GET", path, None, 200), end - clock())) != "":
            if reason := over():
                return reason
            if clock() >= end:
                return f"{path} was not good after {seconds:.0f} s: {answer}"
            wait(_POLL_S)
    for question in questions:
        answer = _ask(base_url, question, end - clock())
        if answer:
            return over() or f"{question.method} {question.path}: {answer}"
    return over()


def _ask(base_url: str, question: Question, seconds: float) -> str:
    """ "" for the status that is wanted, else what came instead."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=max(1.0, seconds))
    body = None if question.body is None else json.dumps(question.body).encode()
    try:
        connection.request(question.method, question.path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        data = answer.read(_ANSWER_LIMIT)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error!r})"
    finally:
        connection.close()
    if answer.status != question.status:
        return f"status {answer.status} instead of {question.status}: {data[:200].decode(errors='replace')}"
    return ""
