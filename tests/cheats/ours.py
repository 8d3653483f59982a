"""This project's verifier behind the protocol of the suite: one question per line in, one score per line out.

python -m tests.cheats.run --verifier "python -m tests.cheats.ours"
"""

import json
import sys

from storage.ids import Mode
from tasks.sandbox.executor import Executor, Limits
from tasks.sandbox.judge import Question, judge


def question(row: dict) -> Question:
    pairs = {"inputs": tuple(row["inputs"]), "outputs": tuple(row["outputs"]), "visible": row["visible"]}
    return Question(mode=Mode(row["mode"]), program=row["program"], answer=row["answer"], **pairs)


if __name__ == "__main__":
    with Executor(workers=1) as executor:
        for line in sys.stdin:
            judgement = judge(executor, [question(json.loads(line))], limits=Limits(cpu_s=1.0))[0]
            print(judgement.passed / judgement.checks, flush=True)
