"""A BAD EXAMPLE: a verifier as published reward functions have it. It runs what the model wrote, without a sandbox.

Program, answer and gold are pasted into one script, which compares them itself and says how it went by its exit code
or by what it prints. It is here to show that the suite finds faults. It runs the suite's hostile answers as you, with
no more around them than a time limit and a memory limit, so it must be told that this is wanted:

    python -m tests.cheats.run --verifier "python -m tests.cheats.naive --unsafe --says exit"
"""

import argparse
import json
import subprocess
import sys

PRELUDE = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
SCRIPTS = {
    "deduction": "{program}\ngold_output = {output!r}\ngold = {output}\nright = gold == ({answer})\n",
    "abduction": "{program}\ngold = {output}\nright = f({answer}) == gold\n",
    "induction": "{answer}\ngold = {table}\nright = all([{calls}])\n",
}
ENDINGS = {"exit": "assert right\n", "stdout": "print(bool(right))\n"}
SECONDS = 5.0


def script(row: dict, ending: str) -> str:
    hidden = list(zip(row["inputs"], row["outputs"], strict=True))[row["visible"] :]
    facts = {
        "program": row["program"],
        "answer": row["answer"],
        "output": row["outputs"][0],
        "table": "{" + ", ".join(f"{given!r}: {output}" for given, output in hidden) + "}",
        "calls": ", ".join(f"f({given}) == gold[{given!r}]" for given, _ in hidden),
    }
    return PRELUDE + SCRIPTS[row["mode"]].format_map(facts) + ending


def score(row: dict, says: str) -> int:
    data = script(row, ENDINGS[says]).encode("utf-8", "surrogatepass")
    try:
        done = subprocess.run([sys.executable, "-I", "-"], input=data, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 0
    if says == "exit":
        return int(done.returncode == 0)
    return int(done.stdout.strip().endswith(b"True"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unsafe", action="store_true", required=True, help="yes, run hostile programs as me")
    parser.add_argument("--says", choices=ENDINGS, default="exit", help="how the script says that an answer is right")
    arguments = parser.parse_args()
    for line in sys.stdin:
        print(score(json.loads(line), arguments.says), flush=True)
