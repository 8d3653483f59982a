"""The errors of the house, one per boundary that can be crossed.

Each also inherits the stdlib class a caller would expect, and each pickles (Prefect moves them between processes).
A model's bad answer is data (a verdict), never one of these. A message says what happened, with values, in what state
the data is, and the next command.
"""

from __future__ import annotations


class AzrError(Exception):
    """Base of every error that a user can cause or mend; printed without a traceback."""


class ConfigError(AzrError, ValueError):
    """A config value, key, file or command line argument that cannot be used."""


class LedgerError(AzrError, OSError):
    """The ledger is not in the state that the caller needs, or could not be written."""


class RunTaken(LedgerError):
    """Another process is writing the run."""


class SandboxError(AzrError, RuntimeError):
    """The executor cannot run programs safely, or its own processes failed."""


class EngineError(AzrError, RuntimeError):
    """A language model could not be loaded, sampled from, updated or published."""


class SafetyPause(AzrError, RuntimeError):
    """A safety rule asks a person to look before the run goes on."""


class LimitReached(AzrError, RuntimeError):
    """A run came to a limit that its config sets: free disk, tokens or hours; it can be gone on with."""


class Passing(AzrError):
    """A fault of the moment, such as a process killed from outside: a stage that meets it is tried again by itself.

    Given to an error beside what it is, as in `SandboxLost`. Whatever would happen the same way again is none.
    """


class SandboxLost(SandboxError, Passing):
    """The executor's processes are gone or could not be started now."""
