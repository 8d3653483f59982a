"""Programs that attack the executor: each ends as data/hostile.jsonl says, and nothing outside notices.

A row's `expected` is the status of a sandbox with every layer; `accept` names others that are as safe.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.sandbox.executor import Execution, Executor, Job, Lane, Layer, Limits, Status

ROWS = [json.loads(line) for line in (Path(__file__).parent / "data" / "hostile.jsonl").read_text("utf-8").splitlines()]
CPU_S = {"compat": 2.0, "memory": 1.0}
VALUES = {
    "fs_os_environ": "[]",
    "hack_frames": "[]",
    "hack_gc": "[]",
    "hack_state_leak_2": "False",
    "ctl_surrogate": "'\\ud800'",
    "eq_nan": "nan",
    "eq_negzero": "-0.0",
    "eq_set_order": "{'a', 'b', 'c', 'd', 'e', 'f', 'g'}",
    "det_state_call": "1",
    "det_default_arg": "[1]",
    "ok_eval_exec": "7",
}
LAYERS = {"all layers": frozenset(Layer), "seccomp and rlimits only": frozenset({Layer.SECCOMP})}


def job(row: dict[str, str], canaries: Path) -> Job:
    limits = Limits(cpu_s=CPU_S.get(row["category"], 0.3))
    program = row["snippet"].replace("/tmp/", f"{canaries}/")
    return Job(program=program, inputs=(row["input"],), limits=limits, interpreters=2)


def state() -> tuple[dict[str, str], int, list[str]]:
    """What the programs could have changed here: environment, descriptors, children (zombies too)."""
    children = [text for path in Path("/proc/self/task").glob("*/children") for text in path.read_text().split()]
    return dict(os.environ), len(list(Path("/proc/self/fd").iterdir())), children


@pytest.fixture(scope="module", params=LAYERS)
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Execution]:
    """Every program of the set, run in one batch by one executor that must still work afterwards."""
    canaries = tmp_path_factory.mktemp("canaries")
    canaries.chmod(0o777)
    (canaries / "azr_canary_dir").mkdir()
    (canaries / "azr_canary_dir" / "keep").write_text("kept")
    before = state()
    with Executor(workers=2, layers=LAYERS[request.param]) as executor:
        found = executor.run([job(row, canaries) for row in ROWS])
        assert executor.statistics().reruns > 0  # some went through the fast lane first
        after = executor.run([Job(program="def f(x):\n    return x + 1", inputs=("1",), interpreters=2)])
        assert after[0].outputs[0].text == "2"
    assert state() == before
    assert [path.name for path in canaries.iterdir()] == ["azr_canary_dir"]
    assert (canaries / "azr_canary_dir" / "keep").read_text() == "kept"
    return {row["name"]: execution for row, execution in zip(ROWS, found, strict=True)}


def test_every_program_ends_as_expected(attacked: dict[str, Execution]) -> None:
    wrong = [
        (row["name"], row["expected"], attacked[row["name"]])
        for row in ROWS
        if attacked[row["name"]].status not in {row["expected"], *row.get("accept", [])}
    ]
    assert wrong == []


@pytest.mark.parametrize("name", VALUES)
def test_what_a_program_can_find_is_nothing(attacked: dict[str, Execution], name: str) -> None:
    assert attacked[name].outputs[0].text == VALUES[name]


def test_what_did_not_end_well_has_a_reason_and_no_output(attacked: dict[str, Execution]) -> None:
    for execution in attacked.values():
        if execution.status not in (Status.OK, Status.NONDETERMINISTIC):
            assert execution.reason
            assert [output.text for output in execution.outputs] == [None]
            assert execution.reason.isprintable()


@pytest.mark.long
def test_the_slow_lane_alone_says_the_same(attacked: dict[str, Execution], tmp_path: Path) -> None:
    with Executor(workers=2, lanes=frozenset({Lane.SLOW})) as executor:
        alone = executor.run([job(row, tmp_path) for row in ROWS])
    for row, execution in zip(ROWS, alone, strict=True):
        found = attacked[row["name"]]
        accepted = {row["expected"], *row.get("accept", [])}
        assert found.status is execution.status or {found.status, execution.status} <= accepted, row["name"]
        if found.status is execution.status is Status.OK:
            assert found.outputs == execution.outputs


OTHER_USER = """
import json, sys
from tasks.sandbox.executor import *
rows = [json.loads(line) for line in open(sys.argv[1])]
jobs = [
    Job(program=row["snippet"], inputs=(row["input"],), interpreters=2,
        limits=Limits(cpu_s=dict(compat=2.0, memory=1.0).get(row["category"], 0.3)))
    for row in rows
]
for layers in (frozenset(Layer), frozenset({Layer.SECCOMP})):
    with Executor(workers=2, layers=layers) as executor:
        found = executor.run(jobs)
        for row, execution in zip(rows, found):
            if execution.status not in {row["expected"], *row.get("accept", [])}:
                print(row["name"], row["expected"], execution)
"""
NOBODY = 65534


def readable_interpreter() -> str:
    """An interpreter that an ordinary user may start; the one of this environment is not always."""
    named = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for command in (sys.executable, shutil.which(named, path="/usr/bin:/usr/local/bin")):
        if command is not None and _starts(command):
            return command
    pytest.skip("no interpreter that an ordinary user may start")


def _starts(command: str) -> bool:
    check = [command, "-c", "import tasks.sandbox.executor"]
    try:
        return (
            subprocess.run(check, check=False, capture_output=True, user=NOBODY, env=_plain(), cwd="/").returncode == 0
        )
    except PermissionError:
        return False


def _plain() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_is_as_safe() -> None:
    rows = Path(__file__).parent / "data" / "hostile.jsonl"
    command = [readable_interpreter(), "-c", OTHER_USER, str(rows)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, user=NOBODY, env=_plain(), cwd="/")
    assert ended.stdout == ""
