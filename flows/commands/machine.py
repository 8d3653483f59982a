"""The commands about this machine and one program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import HERE, Common, app


@app.command
def doctor(*, json: Annotated[bool, Parameter(negative="")] = False, common: Common = HERE) -> int:
    """Say what this machine can do: versions, sandbox layers, engines, disk.

    Args:
        json: Print JSON.
    """
    from flows.doctor import examine

    return examine(common.root, as_json=json)


@app.command(name="exec")
def execute(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],  # - is standard input
    /,
    *,
    inputs: Annotated[tuple[str, ...], Parameter(name="--input", negative="", allow_leading_hyphen=True)],
    entry: str = "f",
    interpreters: Literal[1, 2] = 2,
    cpu_s: float = 4.0,
    memory_mb: int = 256,
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Run one program as a model's would be, and say what became of it. Exit code 0 when it is ok, 1 when not.

    Args:
        file: The program; - reads it from standard input.
        inputs: What stands between the parentheses of one call, as "1, [2], k=3"; may be repeated.
        entry: The function to call.
        interpreters: 2 also finds what is not deterministic.
        cpu_s: Seconds of CPU time that one interpreter may use, over all inputs.
        memory_mb: MiB of address space.
        json: Print JSON.
    """
    from flows.execute import execute_file

    return execute_file(
        file,
        inputs,
        entry=entry,
        interpreters=interpreters,
        cpu_s=cpu_s,
        memory_mb=memory_mb,
        as_json=json,
    )
