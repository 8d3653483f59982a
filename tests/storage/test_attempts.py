import json
import os
import signal
import time

import pytest

from storage.attempts import AttemptLog, Outcome, read_attempts
from storage.ids import Position, Stage
from storage.ledger import Ledger

HERE = Position(1, Stage.PROPOSE)


def outcomes(directory):
    return [(record.attempt, record.outcome) for record in read_attempts(directory, {})]


def test_an_attempt_is_running_until_it_ends(tmp_path, samples):
    log = AttemptLog(tmp_path)
    assert log.start(HERE, samples.code) == 1
    (record,) = read_attempts(tmp_path, {})
    assert (record.outcome, record.pid, record.ended_us) == (Outcome.RUNNING, os.getpid(), None)
    log.end(HERE, 1, Outcome.FAILED, "no luck")
    (record,) = read_attempts(tmp_path, {})
    assert (record.outcome, record.error, record.code_version) == (Outcome.FAILED, "no luck", "abc123")


def test_an_attempt_whose_process_is_gone_was_killed(tmp_path, samples):
    pid = os.fork()
    if pid == 0:
        AttemptLog(tmp_path).start(HERE, samples.code)
        time.sleep(60)
        os._exit(0)
    while not outcomes(tmp_path):
        time.sleep(0.01)
    assert outcomes(tmp_path) == [(1, Outcome.RUNNING)]
    os.kill(pid, signal.SIGKILL)
    while outcomes(tmp_path) == [(1, Outcome.RUNNING)]:  # until it is a zombie: nobody has waited for it yet
        time.sleep(0.01)
    assert outcomes(tmp_path) == [(1, Outcome.KILLED)]
    os.waitpid(pid, 0)
    assert outcomes(tmp_path) == [(1, Outcome.KILLED)]
    assert AttemptLog(tmp_path).start(HERE, samples.code) == 2


def test_a_later_process_with_the_same_pid_is_another(tmp_path, samples):
    AttemptLog(tmp_path).start(HERE, samples.code)
    path = tmp_path / "attempts.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"process": "boot/1"}) + "\n")
    assert outcomes(tmp_path) == [(1, Outcome.KILLED)]


@pytest.mark.parametrize("torn", ['{"event": "start", "iter', "\n\n", '{"event": "dance"}', "[]", "\x00\x00", '"x"'])
def test_a_torn_line_is_skipped_and_the_next_one_is_whole(tmp_path, samples, torn):
    log = AttemptLog(tmp_path)
    log.start(HERE, samples.code)
    with (tmp_path / "attempts.jsonl").open("a") as file:
        file.write(torn)
    assert AttemptLog(tmp_path).start(HERE, samples.code) == 2
    log.end(HERE, 2, Outcome.SEALED)
    assert outcomes(tmp_path) == [(1, Outcome.RUNNING), (2, Outcome.SEALED)]


def test_a_kill_between_the_seal_and_the_last_line_still_counts_as_sealed(root):
    path = root / "nano" / "attempts.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    last = Ledger.open(root, "nano").attempts()[-1]
    assert (last.position, last.outcome) == (Position(1, Stage.UPDATE), Outcome.SEALED)
    assert last.ended_us is not None


def test_the_log_only_grows_and_has_one_line_per_event(root):
    events = [json.loads(line)["event"] for line in (root / "nano" / "attempts.jsonl").read_text().splitlines()]
    assert events == ["start", "end"] * 5
