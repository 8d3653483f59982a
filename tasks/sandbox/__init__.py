"""Untrusted code: run programs that a model wrote, and judge answers, without trusting either."""
