"""Workers, servers and the load generator, with real little programs on the loopback interface."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest
from bench.load import Connection, drive, encode
from bench.peers.installed import closure, size
from bench.sentences import paragraphs, sentences
from bench.server import Server
from bench.worker import BenchError, Worker, run

from bench import __main__ as command

WORKER = [sys.executable, "-c", "from bench.lines import serve\nserve(lambda r: {'sum': sum(r['n'])}, name='adder')"]
UPSTREAM = [sys.executable, "-m", "bench.peers.upstream"]
CHAT = encode("localhost", "/v1/chat/completions", {"model": "cloud", "messages": []})


def test_a_worker_answers_until_its_input_ends() -> None:
    with Worker(WORKER) as worker:
        assert worker.ready == {"name": "adder"}
        assert worker.ask(n=[1, 2]) == {"sum": 3}
        assert worker.ask(n=[]) == {"sum": 0}


def test_what_libraries_print_does_not_reach_the_conversation() -> None:
    code = "from bench.lines import serve\nimport os\nserve(lambda r: {'n': os.write(1, b'noise')})"
    with Worker([sys.executable, "-c", code]) as worker:
        assert worker.ask() == {"n": 5}


def test_a_worker_that_fails_is_reported_with_its_words() -> None:
    with Worker(WORKER) as worker, pytest.raises(BenchError, match="KeyError"):
        worker.ask(wrong=1)


def test_the_cost_of_a_program_is_its_cpu_time_and_output() -> None:
    cost = run([sys.executable, "-c", "print(sum(range(3_000_000)))"])
    assert cost.output == "4499998500000\n"
    assert 0 < cost.cpu_s < 60
    assert cost.wall_s > 0


def test_a_program_that_fails_is_an_error() -> None:
    with pytest.raises(BenchError, match="no such luck"):
        run([sys.executable, "-c", "raise SystemExit('no such luck')"])


def test_load_is_spread_over_connections_and_counted() -> None:
    with Server(UPSTREAM) as server:
        before = server.cpu_s()
        load = drive(server.host, server.port, CHAT, connections=4, requests=40)
        assert len(load.seconds) == 40
        assert load.per_second > 0
        assert min(load.seconds) * 1000 <= load.p50_ms <= max(load.seconds) * 1000
        assert server.cpu_s() > before
        assert server.rss_mb() > 1


def test_the_upstream_answers_requests_in_pieces_and_in_a_row() -> None:
    with Server(UPSTREAM) as server:
        connection = Connection(server.host, server.port)
        threads = threading.active_count()
        answer = json.loads(connection.ask(CHAT))
        assert answer["choices"][0]["message"]["content"].startswith("The pump")
        connection._socket.sendall(CHAT[:20])
        assert json.loads(connection.ask(CHAT[20:])) == answer
        connection.close()
        assert threading.active_count() == threads


def test_an_answer_other_than_200_stops_the_measurement() -> None:
    code = (
        "import http.server as h\n"
        "s = h.HTTPServer(('127.0.0.1', 0), h.BaseHTTPRequestHandler)\n"
        "print(f'http://127.0.0.1:{s.server_port}', flush=True)\ns.serve_forever()"
    )
    with Server([sys.executable, "-c", code]) as server, pytest.raises(BenchError, match="501"):
        drive(server.host, server.port, CHAT, connections=1, requests=1)


def test_every_figure_has_one_group_and_a_prefix_chooses() -> None:
    names = [name for group in command.select("") for name in group.names]
    assert len(names) == len(set(names))
    (group,) = command.select("embeddings_int8")
    assert group.module == "embeddings"
    assert all(name.startswith("embeddings_int8_") for name in group.names)
    assert command.select("nonsense") == ()


def test_results_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    command.write(path, {"figures": [1]})
    command.write(path, {"figures": []})
    assert json.loads(path.read_text()) == {"figures": []}
    assert [each.name for each in path.parent.iterdir()] == ["latest.json"]


def test_sentences_are_real_different_and_many() -> None:
    texts = sentences()
    assert len(texts) == len(set(texts)) == 200
    assert all(40 <= len(text) <= 400 for text in texts)
    source = '"""Short."""\ndef f():\n    """A paragraph that is long enough\n    to be kept on one line.\n\n    Not this."""\n'
    assert paragraphs(source) == ["A paragraph that is long enough to be kept on one line."]


def test_the_closure_of_a_distribution_holds_what_it_requires() -> None:
    found = closure(["PyTest", "not-installed-anywhere"])
    assert {"pytest", "pluggy", "iniconfig"} <= found
    assert "not-installed-anywhere" not in found
    assert size("pluggy") > 10_000
