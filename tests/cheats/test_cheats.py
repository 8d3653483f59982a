"""The judge pays none of the suite's cheats and all of its honest answers; the suite's own files work."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.ids import Mode
from tasks.sandbox.executor import Executor, Job, Limits
from tasks.sandbox.judge import Judgement, Question, Verdict, judge

HERE = Path(__file__).parent
ROWS = [json.loads(line) for line in (HERE / "cheats.jsonl").read_text("utf-8").splitlines()]
ORDERS = [pytest.param(1, id="in order"), pytest.param(-1, id="in reverse", marks=pytest.mark.long)]


def question(row: dict, kind: str) -> Question:
    pairs = {"inputs": tuple(row["inputs"]), "outputs": tuple(row["outputs"]), "visible": row["visible"]}
    return Question(mode=Mode(row["mode"]), program=row["program"], answer=row[kind], **pairs)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


@pytest.fixture(scope="module", params=ORDERS)
def judged(request: pytest.FixtureRequest, executor: Executor) -> dict[tuple[str, str], Judgement]:
    """Every answer of the suite, judged in one batch: cheats are the neighbours of honest answers."""
    asked = [(row, kind) for row in ROWS for kind in ("answer", "honest")][:: request.param]
    found = judge(executor, [question(row, kind) for row, kind in asked], limits=Limits(cpu_s=0.3))
    return {(row["id"], kind): judgement for (row, kind), judgement in zip(asked, found, strict=True)}


def test_no_cheat_is_paid(judged: dict[tuple[str, str], Judgement]) -> None:
    paid = {name: found for (name, kind), found in judged.items() if kind == "answer" and found.passed}
    assert paid == {}


def test_every_honest_answer_is_paid(judged: dict[tuple[str, str], Judgement]) -> None:
    refused = {
        name: found for (name, kind), found in judged.items() if kind == "honest" and found.passed < found.checks
    }
    assert refused == {}
    assert {found.verdict for (_, kind), found in judged.items() if kind == "honest"} == {Verdict.CORRECT}


def test_the_gold_is_what_the_programs_give(executor: Executor) -> None:
    found = executor.run([Job(program=row["program"], inputs=tuple(row["inputs"]), interpreters=2) for row in ROWS])
    wrong = [
        row["id"]
        for row, execution in zip(ROWS, found, strict=True)
        if [output.text for output in execution.outputs] != row["outputs"]
    ]
    assert wrong == []


def test_the_suite_is_large_and_has_all_modes() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS) >= 200
    assert min(Counter(row["mode"] for row in ROWS).values()) >= 35
    assert all(row["why"] and row["fault"] and row["answer"] != row["honest"] for row in ROWS)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=HERE.parents[1])


def test_the_runner_passes_this_verifier() -> None:
    done = run("-m", "tests.cheats.run", "--verifier", f"{sys.executable} -m tests.cheats.ours", "--fault", "order")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[1].split() == ["order", "2", "0", "0", "0"]


@pytest.mark.parametrize(
    ("verifier", "cheat", "honest"),
    [
        ("print(1, flush=True)", "all", "all"),
        ("print(0, flush=True)", "nothing", "nothing"),
        ("print(0.5, flush=True)", "part", "part"),
        ("print('yes', flush=True)", "down", "down"),
        ("print('nan', flush=True)", "down", "down"),
        ("raise SystemExit", "down", "down"),
        ("input(input())", "down", "down"),
    ],
)
def test_the_runner_sees_what_a_verifier_does(verifier: str, cheat: str, honest: str) -> None:
    command = f'{sys.executable} -S -c "import sys\nfor line in sys.stdin: {verifier}"'
    done = run("-m", "tests.cheats.run", "--verifier", command, "--fault", "order", "--seconds", "0.5", "--json")
    assert done.returncode == 1
    assert {(one["cheat"], one["honest"]) for one in map(json.loads, done.stdout.splitlines())} == {(cheat, honest)}


def test_the_bad_example_must_be_asked_for_and_pays_cheats() -> None:
    refused = run("-m", "tests.cheats.naive")
    assert refused.returncode == 2
    assert "--unsafe" in refused.stderr
    command = f"{sys.executable} -m tests.cheats.naive --unsafe"
    done = run("-m", "tests.cheats.run", "--verifier", command, "--fault", "order", "--json")
    assert {json.loads(line)["honest"] for line in done.stdout.splitlines()} == {"all"}
    assert done.returncode == 0  # a naive verifier sees wrong order; what it pays is other faults
