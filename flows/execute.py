"""`azr exec`: what the executor thinks of one program."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.console import Table, as_table, complain, say, say_json, summary
from storage.errors import ConfigError
from tasks.sandbox import Executor, Limits, execute
from tasks.sandbox.jobs import Execution, Status

STDIN = Path("-")


def execute_file(
    file: Path,
    inputs: Sequence[str],
    *,
    entry: str,
    interpreters: int,
    cpu_s: float,
    memory_mb: int,
    as_json: bool,
) -> int:
    """Run a program, print what became of it; returns 0 for ok, 1 for every other status, 2 when nothing could be run.

    Raises SandboxError when this machine cannot confine programs.
    """
    try:
        program, limits = _read(file), Limits(cpu_s=cpu_s, memory_mb=memory_mb)
    except ConfigError as error:
        complain(str(error))
        return 2
    with Executor(workers=1) as executor:
        found = execute(program, *inputs, entry=entry, limits=limits, interpreters=interpreters, executor=executor)
        layers = {name: state for name, state in executor.report().items() if state.startswith(("on", "off"))}
    if as_json:
        say_json({**_facts(found), "outputs": _outputs(inputs, found), "layers": layers})
    else:
        _print(inputs, found, layers)
    return 0 if found.status is Status.OK else 1


def _read(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        return data.decode()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Name a file of Python, or - for stdin.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8: {error.reason} at byte {error.start}. Nothing was run.") from error


def _facts(found: Execution) -> dict[str, object]:
    return {
        "status": found.status,
        "reason": found.reason,
        "cpu_ms": round(found.cpu_us / 1000, 3),
        "memory_mb": round(found.memory_kb / 1024, 1),
        "lane": found.lane,
    }


def _outputs(inputs: Sequence[str], found: Execution) -> list[dict[str, str | None]]:
    return [
        {"input": text, "output": output.text, "error": output.error}
        for text, output in zip(inputs, found.outputs, strict=True)
    ]


def _print(inputs: Sequence[str], found: Execution, layers: Mapping[str, str]) -> None:
    named = {name: "-" if value is None else str(value) for name, value in _facts(found).items()}
    say(summary({**named, "layers": ", ".join(f"{name} {state}" for name, state in layers.items())}))
    rows = [list(row.values()) for row in _outputs(inputs, found)]
    say(f"\n{as_table(Table(('input', 'output', 'error'), rows))}")
