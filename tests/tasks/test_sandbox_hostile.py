"""Programs that attack the executor: each ends as data/hostile.jsonl says, and nothing outside notices.

A row's `expected` is the status of a sandbox with every layer; `accept` names others that are as safe.
"""

import json
import os
from pathlib import Path

import pytest

from tasks.sandbox.executor import Execution, Executor, Job, Layer, Limits, Status

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
