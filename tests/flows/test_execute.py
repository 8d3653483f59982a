"""`azr exec` and the function behind it, as a person uses them."""

import io
import json
import re
import sys

import pytest

from storage.errors import ConfigError
from tasks.sandbox import Executor, Limits, execute
from tasks.sandbox.jobs import Output, Status

PROGRAM = "def f(x, y=2, k=3):\n    return [x, y, k]\n"


@pytest.fixture
def file(tmp_path):
    def written(text: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_one_call_as_a_table(azr, file):
    done = azr("exec", file(PROGRAM), "--input", "1, [2], k=None")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["status", "ok"]
    assert re.split(" {2,}", lines[-1]) == ["1, [2], k=None", "[1, [2], None]", "-"]
    assert "seccomp on" in done.out


def test_several_calls_as_json(azr, file):
    done = azr("exec", file(PROGRAM), "--input", "-1", "--input", "", "--input", "k='é'", "--json")
    found = json.loads(done.out)
    assert done.code == 1
    assert (found["status"], found["reason"]) == ("error", "input 2: " + found["outputs"][1]["error"])
    assert [one["input"] for one in found["outputs"]] == ["-1", "", "k='é'"]
    assert found["outputs"][0] == {"input": "-1", "output": "[-1, 2, 3]", "error": None}
    assert found["cpu_ms"] > 0
    assert found["memory_mb"] > 1
    assert found["lane"] in ("fast", "slow")
    assert all(state.startswith(("on", "off")) for state in found["layers"].values())
    assert found["layers"]["seccomp"].startswith("on")


@pytest.mark.parametrize(
    ("program", "call", "status"),
    [
        (PROGRAM, "0", "ok"),
        ("def f(x):\n    return 1 / x", "0", "error"),
        ("def f(x):\n    while True: pass", "0", "timeout"),
        ("def f(x):\n    return [0] * 10 ** 10", "0", "memory"),
        ("def f(x):\n    return f", "0", "rejected"),
        (PROGRAM, "f(0)", "rejected"),
        ("import os\ndef f(x):\n    os.abort()", "0", "crash"),
        ("def f(x):\n    return list(set('abc'))", "0", "nondeterministic"),
        ("import os\ndef f(x):\n    os.write(3, b'?'); os._exit(0)", "0", "protocol"),
    ],
)
def test_the_status_and_the_exit_code(azr, file, program, call, status):
    done = azr("exec", file(program), "--input", call, "--json", "--cpu-s", "0.3")
    assert json.loads(done.out)["status"] == status
    assert done.code == (status != "ok")


def test_the_options_reach_the_executor(azr, file):
    coin = file("def g(x):\n    return list(set('abc'))")
    assert azr("exec", coin, "--input", "0", "--entry", "g", "--interpreters", "1").code == 0
    large = file("def f(x):\n    return len([0] * 10 ** 7)")
    assert azr("exec", large, "--input", "0", "--memory-mb", "64").code == 1
    assert azr("exec", large, "--input", "0", "--memory-mb", "256").code == 0


def test_the_program_may_come_from_standard_input(azr, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PROGRAM.encode())))
    done = azr("exec", "-", "--input", "7", "--json")
    assert json.loads(done.out)["outputs"][0]["output"] == "[7, 2, 3]"


def test_bad_usage_is_code_2_and_says_what_is_wrong(azr, file, tmp_path):
    (tmp_path / "latin.py").write_bytes("# é".encode("latin-1"))
    for words, said in [
        (["exec", str(tmp_path / "none.py"), "--input", "1"], "none.py cannot be read: No such file"),
        (["exec", str(tmp_path), "--input", "1"], "cannot be read: Is a directory"),
        (["exec", str(tmp_path / "latin.py"), "--input", "1"], "is not UTF-8"),
        (["exec", file(PROGRAM)], "--input"),
        (["exec", file(PROGRAM), "--input", "1", "--interpreters", "3"], "--interpreters"),
        (["exec", file(PROGRAM), "--input", "1", "--cpu-s", "0"], "cpu_s must be positive"),
        (["exec", file(PROGRAM), "--input", "1", "--memory-mb", "1"], "memory_mb at least 64"),
        (["exec", file(PROGRAM), "--input", "1", "--jsn"], "Did you mean --json"),
    ]:
        done = azr(*words)
        assert (done.code, done.out) == (2, ""), words
        assert said in done.err.replace("\n", " ")


def test_the_same_for_notebooks():
    found = execute(PROGRAM, "1, [2]")
    assert (found.status, found.outputs) == (Status.OK, (Output("[1, [2], 3]"),))
    with Executor(workers=1) as executor:
        several = execute(PROGRAM, "1", "2", executor=executor)
        again = execute(PROGRAM, "1", entry="g", limits=Limits(cpu_s=1.0), interpreters=1, executor=executor)
    assert [output.text for output in several.outputs] == ["[1, 2, 3]", "[2, 2, 3]"]
    assert (again.status, again.outputs[0].raised) == (Status.ERROR, "NameError")


def test_the_function_refuses_what_is_no_question():
    with pytest.raises(ValueError, match="a job needs inputs"):
        execute(PROGRAM)
    with pytest.raises(ConfigError, match="cpu_s"):
        execute(PROGRAM, "1", limits=Limits(cpu_s=0))
