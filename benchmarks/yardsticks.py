"""Other ways to run a program, none of them ours: what the executor is measured against.

    python yardsticks.py NAME WORKERS

A process of its own, so that what forks here forks a small interpreter. The first line on standard input is a JSON list
of [program, input] pairs; each further line is a number of rounds, answered by one line when they are done: the outputs
of the last one. Everything here but `monty` runs programs without any confinement: give it harmless ones only.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.managers import ListProxy

Pair = tuple[str, str]
Rounds = Callable[[list[Pair]], Iterable[str]]
TIMEOUT_S = 4.0


def text_of(pair: Pair) -> str:
    """Plain `exec`: program and input come as text, the output goes as text."""
    program, arguments = pair
    names: dict[str, object] = {"__name__": "__main__"}
    try:
        exec(program, names)
        return repr(eval(f"f({arguments})", names))
    except Exception as error:  # noqa: BLE001 - whatever a program raises
        return f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def in_process(_workers: int) -> Iterator[Rounds]:
    """The bound: nothing can be cheaper and still run the program."""
    yield lambda pairs: list(map(text_of, pairs))


@contextlib.contextmanager
def pool(workers: int) -> Iterator[Rounds]:
    """`multiprocessing.Pool`, one program per message, as a time limit on each of them would need."""
    with multiprocessing.Pool(workers) as processes:
        yield lambda pairs: list(processes.imap(text_of, pairs))


@contextlib.contextmanager
def process_each(_workers: int) -> Iterator[Rounds]:
    """As human-eval does (https://github.com/openai/human-eval, execution.py): a Manager and a Process per program."""
    yield lambda pairs: list(map(_in_new_process, pairs))


def _in_new_process(pair: Pair) -> str:
    with multiprocessing.Manager() as manager:
        found = manager.list()
        process = multiprocessing.Process(target=_with_alarm, args=(pair, found))
        process.start()
        process.join(TIMEOUT_S + 1)
        if process.is_alive():
            process.kill()
        return str(found[0]) if len(found) else "timed out"


def _with_alarm(pair: Pair, found: ListProxy[str]) -> None:
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found.append(text_of(pair))


@contextlib.contextmanager
def interpreter_each(_workers: int) -> Iterator[Rounds]:
    """A new interpreter per program."""
    yield lambda pairs: list(map(_in_new_interpreter, pairs))


def _in_new_interpreter(pair: Pair) -> str:
    code = f"{pair[0]}\nprint(ascii(f({pair[1]})))"
    command = [sys.executable, "-I", "-S", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    return said.rstrip("\n").rpartition("\n")[2]


@contextlib.contextmanager
def monty(workers: int) -> Iterator[Rounds]:
    """pydantic-monty (https://github.com/pydantic/monty): an interpreter in Rust, a fresh session per program."""
    from pydantic_monty import Monty, MontyError

    with Monty(max_processes=workers) as sessions:

        def run(pair: Pair) -> str:
            try:
                with sessions.checkout() as session:
                    return str(session.feed_run(f"{pair[0]}\nrepr(f({pair[1]}))"))
            except MontyError as error:
                return f"{type(error).__name__}: {error}"

        yield lambda pairs: list(map(run, pairs))


WAYS = {way.__name__: way for way in (in_process, pool, process_each, interpreter_each, monty)}


def main() -> None:
    name, workers = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # programs print, too
    pairs: list[Pair] = [(program, arguments) for program, arguments in json.loads(sys.stdin.readline())]
    with WAYS[name](int(workers)) as rounds:
        for line in sys.stdin:
            found: Iterable[str] = []
            for _ in range(int(line)):
                found = rounds(pairs)
            print(json.dumps(list(found)), file=answers, flush=True)


if __name__ == "__main__":
    main()
