"""Entry point of `azr`: every command, and errors as one clear message."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flows.commands import checking, looking, machine, nano, serving, training
from flows.commands.common import app
from storage.errors import AzrError

COMMANDS = (training, looking, checking, machine, nano, serving)
"""The groups of commands: importing them has put them into the app."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `azr`: run one command; an error of ours is one clear message and exit code 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(words, result_action="return_value")
    except AzrError as error:
        if "--debug" in words:
            raise
        from flows.console import complain

        complain(str(error))
        code = 1
    except KeyboardInterrupt:
        sys.stderr.write("azr: stopped. What is sealed stays; the same command again continues.\n")
        code = 130
    except BrokenPipeError:  # the reader of our output went away, as in `azr sql ... | head`
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
