"""One program tried by hand: what `azr exec` and a notebook call."""

from __future__ import annotations

from tasks.sandbox.executor import Execution, Executor, Job, Limits


def execute(
    program: str,
    *inputs: str,
    entry: str = "f",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    interpreters: int = 2,
    executor: Executor | None = None,
) -> Execution:
    """What the executor makes of one program, as a frozen record; whatever the program does is no exception here.

    Each input is the text between the parentheses of one call of `entry`, such as ``"1, [2], k=3"``; "" is a call
    without arguments. Without an `executor` one is started for this call alone (about 0.1 s per interpreter) and
    ended with it; to ask more than once, share one::

        with Executor() as executor:
            execute(program, "1, [2]", executor=executor)

    Raises ValueError without inputs or for `interpreters` other than 1 and 2, ConfigError for limits that cannot be
    used, SandboxError when this machine cannot confine programs.
    """
    job = Job(program=program, inputs=inputs, entry=entry, limits=limits, interpreters=interpreters)
    if executor is not None:
        return executor.run([job])[0]
    with Executor(workers=1) as own:
        return own.run([job])[0]
