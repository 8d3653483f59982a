"""Untrusted code: run programs that a model wrote, and judge answers, without trusting either."""

from tasks.sandbox.executor import Executor, Limits
from tasks.sandbox.trial import execute

__all__ = ["Executor", "Limits", "execute"]
