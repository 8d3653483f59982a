"""The pure rules of the algorithm: modes, prompts, parsing, checks, curriculum and rewards."""
