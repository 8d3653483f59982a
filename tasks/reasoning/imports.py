"""Which modules a program may import, decided on its static facts; the sandbox confines whatever passes.

`pure` allows what always computes the same from its arguments and no other way to a module; `paper` is the list of the
published code (arXiv 2505.03335, figure 10; `configs/azr_ppo_trainer.yaml` of LeapLabTHU/Absolute-Zero-Reasoner), with
its dotted entries matched as they were meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set

from tasks.config import Imports, SandboxConfig
from tasks.sandbox.facts import Facts

# No clocks, randomness, files, processes, threads, network, introspection. Digests and compression are left out too:
# nobody can reason through them, and what zlib gives depends on its version.
_PURE = """
__future__ abc array base64 binascii bisect cmath collections colorsys contextlib copy csv dataclasses decimal difflib
enum fractions functools graphlib heapq html ipaddress itertools json keyword math numbers operator pprint re reprlib
shlex statistics string struct textwrap typing unicodedata urllib.parse
"""
_PAPER = """
logging random multiprocessing pebble subprocess threading datetime time hashlib hmac bcrypt calendar
os.sys os.path sys.exit os.environ
"""
# Builtins that lead to modules by text; `getattr` with a text that is written out counts as that attribute instead.
_LOOKUPS = """
__import__ __builtins__ __loader__ __spec__ eval exec compile globals locals vars getattr breakpoint
"""
# Attributes that lead from a value to modules, or look others up by text.
_WAYS_OUT = """
__builtins__ __closure__ __code__ __dict__ __getattribute__ __globals__ __import__ __loader__ __reduce__ __reduce_ex__
__self__ __spec__ __subclasses__ __traceback__ ag_frame cr_frame gi_frame f_back f_builtins f_globals f_locals tb_frame
tb_next CodeType FunctionType LambdaType ModuleType ForwardRef Formatter attrgetter get_type_hints methodcaller
singledispatch singledispatchmethod
"""
# Names under which modules of the pure list hold others.
_HELD = """
sys _sys os random _random inspect builtins bltns _thread
"""
_IMPURE = """
asyncio builtins calendar concurrent ctypes datetime gc glob importlib inspect io locale logging multiprocessing os
pathlib platform queue random resource secrets select shutil signal socket subprocess sys tempfile threading time timeit
tracemalloc uuid weakref zoneinfo
"""
PURE = frozenset(_PURE.split())
PAPER = tuple(_PAPER.split())
_NAMES = frozenset(_LOOKUPS.split())
_ATTRIBUTES = frozenset(_WAYS_OUT.split()) | frozenset(_HELD.split())
_IMPORTERS = frozenset({"__import__", "importlib"})
_FACILITIES = frozenset({"id", "hash", "input", "open", "breakpoint"})
_FACILITY_MODULES = frozenset(_IMPURE.split())
_WORDS = re.compile(r"(?<![\w.])(?:" + "|".join(re.escape(word) for word in PAPER) + r")(?!\w)")


def banned(facts: Facts, sandbox: SandboxConfig) -> str | None:
    """The first thing about a program that its run's rule for imports bans; None when there is none."""
    return next(_RULES[sandbox.imports](facts, frozenset(sandbox.allow_imports)), None)


def facilities(facts: Facts) -> tuple[str, ...]:
    """What of clocks, chance, identity and the machine a program names, sorted: `hash`, `random`, `time`, ..."""
    modules = {name.split(".")[0] for name in facts.imports}
    return tuple(sorted(_FACILITIES.intersection(facts.names) | _FACILITY_MODULES & modules))


def paper_words(program: str) -> tuple[str, ...]:
    """The banned words of the paper that stand anywhere in a program's text, comments included, sorted."""
    return tuple(sorted(set(_WORDS.findall(program))))


def _outside_pure(facts: Facts, allowed: Set[str]) -> Iterator[str]:
    free = PURE | allowed
    for module in facts.imports:
        taken = [member for member in facts.members if member.startswith(f"{module}.")]
        if not _within(module, free) and not (taken and all(_within(member, free) for member in taken)):
            yield module
    yield from sorted(_NAMES.intersection(facts.names))
    members = {member.rpartition(".")[2] for member in facts.members}
    found = set(facts.attributes) | members | (set(facts.names) if "*" in members else set())
    yield from sorted((_ATTRIBUTES - allowed) & found)


def _within(module: str, modules: Set[str]) -> bool:
    """Whether a module or a package around it is among `modules`."""
    parts = module.split(".")
    return any(".".join(parts[:count]) in modules for count in range(1, len(parts) + 1))


def _on_papers_list(facts: Facts, allowed: Set[str]) -> Iterator[str]:
    named = {*facts.imports, *facts.members}
    named |= {f"{module}.{name}" for module in facts.imports for name in facts.attributes}
    parts = {part for name in (*facts.imports, *facts.members) for part in name.split(".")}
    for word in PAPER:
        if word not in allowed and word in (named if "." in word else parts):
            yield word
    yield from sorted((_IMPORTERS - allowed) & {*facts.names, *facts.attributes, *parts})


_RULES: dict[Imports, Callable[[Facts, Set[str]], Iterator[str]]] = {
    Imports.PURE: _outside_pure,
    Imports.PAPER: _on_papers_list,
}
