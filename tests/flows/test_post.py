"""Artifacts on their way to a server: in order, late rather than lost, and never held up by one that is away."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from azr_process import until

from flows.post import Post


class Server(BaseHTTPRequestHandler):
    """Answers with the statuses it was given, then 201, and keeps what it took."""

    statuses: list[int]
    taken: list[str]

    def do_GET(self):
        """Prefect's client asks for a token against forgery, which this server does not want."""
        self.send_response(404)
        self.end_headers()

    def do_POST(self):
        said = self.rfile.read(int(self.headers["content-length"])).decode()
        status = self.statuses.pop(0) if self.statuses else 201
        if status == 201:
            self.taken.append(json.loads(said)["data"])
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    """A server that is started when it is called with the statuses of its first answers."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    handler = type("Handler", (Server,), {"statuses": [], "taken": []})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        serving = threading.Thread(target=listening.serve_forever, daemon=True)
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{listening.server_port}/api"}):
            yield handler, serving
        if serving.is_alive():
            listening.shutdown()


def letter(text):
    return lambda client: client.request("POST", "/artifacts/", json={"data": text}).raise_for_status()


def test_letters_arrive_in_order_also_when_a_server_fails_in_between(server, caplog):
    handler, serving = server
    serving.start()
    handler.statuses += [500, 201, 500]
    post = Post()
    for text in "abc":
        post.put(letter(text))
    post.close(20)
    assert handler.taken == ["a", "b", "c"]
    assert len([record for record in caplog.records if record.name == "azr"]) == 1  # said once


def test_a_letter_that_is_refused_or_cannot_be_written_is_dropped_and_the_next_goes(server, caplog):
    handler, serving = server
    serving.start()
    handler.statuses += [422]
    post = Post()

    def unreadable(client):
        raise OSError("rewards.parquet is not what was sealed")

    for one in (letter("refused"), unreadable, letter("good")):
        post.put(one)
    post.close(20)
    assert handler.taken == ["good"]
    assert "422" in caplog.text


def test_a_server_that_hangs_holds_up_neither_who_posts_nor_the_end(server, caplog):
    """It listens and never answers: nobody serves it."""
    post = Post()
    for number in range(2000):
        post.put(letter(str(number)))
        post.put_latest(letter("bar"))
    began = time.monotonic()
    post.close(1.0)
    assert time.monotonic() - began < 8
    assert "they are lost: 500 artifacts" in caplog.text


def test_a_server_that_is_away_is_asked_until_it_is_back_or_the_end_came(caplog):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        post = Post()
        post.put(letter("a"))
        post.close(0.5)
    assert until(lambda: "azr-post" not in {thread.name for thread in threading.enumerate()}, 20)
    assert "they are lost: 1 artifacts" in caplog.text


def test_of_letters_that_count_until_the_next_the_last_arrives(server):
    handler, serving = server
    post = Post()
    post.put_latest(letter("1 of 3"))
    post.put_latest(letter("2 of 3"))
    post.put_latest(letter("3 of 3"))
    serving.start()
    assert until(lambda: "3 of 3" in handler.taken, 20)
    post.put(letter("done"))
    post.close(20)
    assert handler.taken[-1] == "done"
