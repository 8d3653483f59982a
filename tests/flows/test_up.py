"""`azr up`: ready, twice, in the way, killed in parts, stopped. Times are printed, never asserted."""

import os
import signal
import socket
import time

import pytest
from azr_process import Person, picture, until
from served import SMALL, free_port, served

from storage.lock import is_alive, process_mark

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    base = tmp_path_factory.mktemp("up")
    began = time.monotonic()
    with served(base / "runs", Person(base / "person")) as running:
        print(f"ready after {time.monotonic() - began:.1f} s, load {os.getloadavg()[0]:.1f}")
        yield running
        code, took, all_gone = running.stop()
        print(f"stopped after {took:.1f} s")
        assert code == 0, running.said()
        assert all_gone


def test_it_says_where_it_is_and_what_to_press(up):
    said = up.said()
    assert f"http://127.0.0.1:{up.port}\n" in said
    form = up.deployment("train/train")["id"]
    assert f"/deployments/deployment/{form}/run" in said
    assert str(up.root) in said
    assert "30 days" in said


def test_a_second_one_says_so_and_ends_well(up):
    done = up.person.azr("up", "--root", up.root)
    assert done.code == 0
    assert f"already serves {up.root}: http://127.0.0.1:{up.port}" in done.out
    assert len(up.processes()) == 2  # the server and the runner


def test_a_port_of_another_program_is_named(tmp_path):
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        port = theirs.getsockname()[1]
        done = Person(tmp_path / "person").azr("up", "--root", tmp_path / "runs", "--port", str(port))
    assert done.code == 1
    assert f"Port {port} of 127.0.0.1 is taken by another program" in done.err
    assert "--port" in done.err


def test_home_and_the_current_directory_stay_untouched(up):
    assert picture(up.person.home) == {}
    assert picture(up.person.desk) == {}


def test_a_killed_server_comes_back_at_the_same_address_and_is_worked_with(up):
    server, runner = up.told("server.json"), up.told("runner.json")
    os.kill(server["pid"], signal.SIGKILL)
    began = time.monotonic()
    assert until(lambda: up.told("server.json")["pid"] != server["pid"] and "is back" in up.said())
    print(f"the server was back after {time.monotonic() - began:.1f} s")
    assert up.told("server.json")["api"] == server["api"]
    assert until(lambda: up.told("runner.json")["pid"] != runner["pid"])
    assert until(lambda: not is_alive(runner["pid"], runner["mark"]))  # it had nothing to do
    assert up.do("audit/audit", run="nothing")["state"]["type"] == "FAILED"


def test_a_killed_runner_comes_back(up):
    runner = up.told("runner.json")
    began = time.monotonic()
    os.kill(runner["pid"], signal.SIGKILL)
    assert until(lambda: up.told("runner.json")["pid"] != runner["pid"])
    print(f"a new runner served after {time.monotonic() - began:.1f} s")
    assert "was killed by signal 9" in up.said()
    assert up.do("audit/audit", run="nothing")["state"]["type"] == "FAILED"


def test_stopped_while_it_trains_it_leaves_nothing_and_goes_on_when_it_is_back(tmp_path):
    root, person, port = tmp_path / "runs", Person(tmp_path / "person"), free_port()
    with served(root, person, port=port) as up:
        known = up.begin("train/train", config={**SMALL, "iterations": 50}, run="long")
        assert until(lambda: (root / "long" / "ledger" / "000001" / "update").exists())
        code, took, all_gone = up.stop()
        print(f"stopped in mid-training after {took:.1f} s")
        assert code == 0, up.said()
        assert all_gone, up.said()
    with served(root, person, port=port) as up:
        assert up.flow_run(known)["state"]["type"] in ("CANCELLED", "CRASHED")
        before = (root / "long" / "attempts.jsonl").stat().st_size
        up.retry(known)
        assert until(lambda: (root / "long" / "attempts.jsonl").stat().st_size > before)
        assert up.flow_run(known)["state"]["type"] == "RUNNING"
        os.kill(up.process.pid, signal.SIGINT)  # as Ctrl-C
        assert up.process.wait(60) == 0, up.said()


def test_a_killed_azr_up_leaves_its_work_to_the_next(tmp_path):
    root, person, port = tmp_path / "runs", Person(tmp_path / "person"), free_port()
    with served(root, person, port=port) as up:
        server, runner = up.told("server.json"), up.told("runner.json")
        up.process.kill()
        up.process.wait()
        assert until(lambda: not is_alive(runner["pid"], runner["mark"]))  # it had nothing to do
        assert until(lambda: process_mark(server["pid"]) != server["mark"])
    with served(root, person, port=port) as up:
        assert up.told("server.json")["pid"] != server["pid"]
