"""The five stages of an iteration, and what they rest on: reasoning rules, the sandbox, the nano language."""
