"""The private Prefect server of a root: found and shared, gone with its last user, and leaving no trace elsewhere."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from azr_process import Person, await_stage, gone, picture, tiny, until
from drive_kills import kill_now

from flows import server
from flows.server import ServerError, home_of, prefect_server
from flows.settings import environment
from storage.ids import Position, Stage
from storage.lock import process_mark

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def clean(monkeypatch):
    """No Prefect settings, now and afterwards."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def answers(api):
    with urllib.request.urlopen(f"{api}/health", timeout=30) as answer:  # noqa: S310 - loopback
        return answer.status == 200


def test_two_users_that_begin_together_share_one_server(place):
    first, second = place.apis
    assert first == second
    assert first.startswith("http://127.0.0.1:")
    assert answers(first)
    assert json.loads((place.root / ".prefect" / "server.json").read_text())["api"] == first


def test_a_killed_training_leaves_no_server_once_its_last_user_is_gone(tmp_path, clean):
    """The training starts the server, we use it too; the training is killed, then we leave."""
    root, person = tmp_path / "root", Person(tmp_path / "person")
    process = person.start(*tiny(root, "alone"))
    assert await_stage(process, root, "alone", Position(0, Stage.PROPOSE, 1)), process.communicate()
    known = json.loads((root / ".prefect" / "server.json").read_text())
    serving = {known["pid"]: process_mark(known["pid"])}
    with prefect_server(root) as api:
        assert api == known["api"]
        assert os.environ["PREFECT_HOME"] == str(home_of(root))
        killed = kill_now(process, root, "alone", spare=serving)
        assert killed.running == Position(0, Stage.PROPOSE, 1)
        assert answers(api)
        assert not gone(serving)
    assert "PREFECT_HOME" not in os.environ
    assert until(lambda: gone(serving), 60)
    assert not (root / ".prefect" / "server.json").exists()
    assert picture(person.home) == {}
    assert picture(person.desk) == {}
    assert (root / ".prefect" / "prefect.db").is_file()


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


def test_the_server_that_the_user_has_set_is_used_and_nothing_is_made(tmp_path, clean):
    with HTTPServer(("127.0.0.1", 0), Healthy) as theirs:
        threading.Thread(target=theirs.serve_forever, daemon=True).start()
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{theirs.server_port}/api"
        with prefect_server(tmp_path / "root") as api:
            assert api == os.environ["PREFECT_API_URL"]
            assert "PREFECT_HOME" not in os.environ
        theirs.shutdown()
    assert not (tmp_path / "root").exists()


def test_a_server_that_the_user_has_set_and_that_is_away_is_named(tmp_path, clean):
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    away = r"PREFECT_API_URL is http://127\.0\.0\.1:9/api.*unset PREFECT_API_URL"
    with pytest.raises(ServerError, match=away), prefect_server(tmp_path / "root"):
        pass
    assert not (tmp_path / "root").exists()


def test_every_path_that_prefect_is_given_lies_below_the_root(tmp_path):
    given = environment(home_of(tmp_path), "http://127.0.0.1:9/api")
    paths = {name: value for name, value in given.items() if "/" in value and not value.startswith("http")}
    assert {"PREFECT_HOME", "PREFECT_LOCAL_STORAGE_PATH", "PREFECT_PROFILES_PATH"} <= set(paths)
    assert all(str(tmp_path.resolve()) in value for value in paths.values()), paths
    assert given["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert given["PREFECT_RESULTS_PERSIST_BY_DEFAULT"] == "false"


def test_a_server_that_does_not_start_is_named_with_its_log(tmp_path, clean, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ServerError, match="ended with code 1") as error, prefect_server(tmp_path):
        pass
    assert str(home_of(tmp_path) / "server.log") in str(error.value)
    assert "PREFECT_HOME" not in os.environ
    assert not (home_of(tmp_path) / "server.json").exists()


@pytest.mark.parametrize("text", ["", "{", "{}", '{"api": "http://127.0.0.1:9/api", "pid": 1}'])
def test_what_a_dead_server_wrote_is_not_believed(tmp_path, clean, monkeypatch, text):
    home_of(tmp_path).mkdir()
    (home_of(tmp_path) / "server.json").write_text(text)
    monkeypatch.setattr(server, "_start", lambda home, *more: f"a new one below {home}")
    with prefect_server(tmp_path) as api:
        assert api == f"a new one below {home_of(tmp_path)}"


def test_a_user_that_dies_counts_no_more(tmp_path):
    """The lock of a user goes with its process, whatever ended it."""
    (tmp_path / "home").mkdir()
    code = (
        "import sys; from pathlib import Path; from flows import server\n"
        "with server.shared_use(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "home"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout.readline() == "in\n"
    assert not exclusive(tmp_path / "home")
    user.kill()
    user.communicate()
    assert exclusive(tmp_path / "home")


def exclusive(home):
    with (home / "users.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
