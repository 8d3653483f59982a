"""The surface of `azr`: help everywhere, nothing heavy behind it, typos answered."""

import json
import subprocess
import sys

import pytest
from azr_process import Person

COMMANDS = [
    (), ("train",), ("rerun",), ("fork",), ("gc",), ("track",), ("replay",), ("rescore",), ("audit",), ("runs",),
    ("status",), ("show",), ("show", "task"), ("sql",), ("config",), ("config", "show"), ("doctor",), ("exec",),
    ("nano",), ("nano", "pretrain"), ("nano", "evaluate"),
]  # fmt: skip
TAKES_A_RUN = [
    ("train",), ("rerun",), ("fork",), ("gc",), ("track",), ("replay",), ("rescore",), ("status",), ("show", "task"),
    ("audit",), ("config", "show"),
]  # fmt: skip
HEAVY = ("torch", "transformers", "prefect", "mlflow", "duckdb")
_LOADED = """
import sys
from flows.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert left.code == 0, left.code
print("loaded:", *sorted(name.partition(".")[0] for name in sys.modules))
"""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(azr, command):
    done = azr(*command, "--help")
    assert done.code == 0
    assert " ".join(["Usage: azr", *command]) in done.out
    assert not done.err


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command not in ((), ("show",), ("config",), ("nano",))]
)
def test_every_command_takes_root_and_debug(azr, command):
    helped = azr(*command, "--help").out
    assert "--root" in helped
    assert "--debug" in helped
    assert ("--run" in helped.split()) == (command in TAKES_A_RUN)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["sql", "--help"]])
def test_help_loads_nothing_heavy(words):
    done = subprocess.run([sys.executable, "-c", _LOADED, *words], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded:")[2].split()
    assert "cyclopts" in loaded
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian"], '"train"'),
        (["statsu"], '"status"'),
        (["show", "taks", "1-ded-001"], '"task"'),
        (["config", "shwo"], '"show"'),
        (["status", "--rooot", "x"], "--root"),
        (["train", "--iteration", "3"], "--iterations"),
        (["sql", "FROM runs", "--fromat", "csv"], "--format"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(azr, words, meant):
    done = azr(*words)
    assert done.code != 0
    assert f"Did you mean {meant}" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sql", "FROM runs", "--format", "xml"], ["xml", "table", "csv", "json"]),
        (["train", "--iterations", "many"], ["many", "--iterations"]),
        (["rerun", "1"], ["STAGE"]),
        (["show", "task"], ["ID"]),
        (["rerun"], ["ITERATION"]),
    ],
)
def test_an_argument_that_is_missing_or_wrong_is_named(azr, words, named):
    done = azr(*words)
    assert done.code != 0
    assert all(word in done.err for word in named), done.err
    assert "Traceback" not in done.err


def test_the_console_script_says_one_line_and_debug_adds_the_traceback(tmp_path):
    person = Person(tmp_path)
    plain = person.azr("status")
    assert plain.code == 1
    assert plain.err.startswith("azr: There is no ledger here")
    assert plain.err.count("\n") == 1
    debug = person.azr("status", "--debug")
    assert debug.code == 1
    assert "Traceback" in debug.err
    assert "LedgerError: There is no ledger here" in debug.err
    assert not list(person.desk.iterdir())


def test_doctor_says_what_this_machine_can_do(azr):
    plain = azr("doctor")
    assert plain.code == 0, plain.err
    for word in ("python", "seccomp", "torch", "prefect"):
        assert word in plain.out.lower()
    as_json = azr("doctor", "--json")
    assert as_json.code == 0
    assert json.loads(as_json.out)
