# ruff: noqa: E501, RUF001 - tables, and characters that only look alike
"""Static facts: what is found, what is banned, what counts as the same program, and that nothing is executed."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tasks.config import Imports, SandboxConfig
from tasks.reasoning import imports
from tasks.reasoning.novelty import bound
from tasks.sandbox import analyser as module
from tasks.sandbox import wire
from tasks.sandbox.analyser import Analyser
from tasks.sandbox.executor import Executor, Job, Limits, Status
from tasks.sandbox.facts import Facts, Halstead, NoFacts, Parameter, ParameterKind
from tasks.sandbox.zygotes import End

SEEDS = Path(__file__).parent / "data" / "azr_seeds_sample.jsonl"
PURE, PAPER = SandboxConfig(), SandboxConfig(imports=Imports.PAPER)


@pytest.fixture(scope="module")
def analyser():
    with Analyser() as analyser:
        yield analyser


def read(analyser, source) -> Facts:
    (found,) = analyser.facts([source])
    assert isinstance(found, Facts), found
    return found


EXAMPLE = '''
import math, os.path as p
from collections import defaultdict as dd

class Box:
    """A box."""
    size: int = 3
    def __init__(self, items): self.items = items
    def top(self, *, key=None): return sorted(self.items, key=key)

def helper(n: int, m=2) -> int:  # a comment
    return helper(n - 1, m) if (y := n > 0 and m) else [k for k in range(m) if k]

def f(a, /, b, *args, c=[1, 2], d=math.pi, **kw):
    match a:
        case Box(items=[first, *rest]): return hash(b)
        case {"k": w, **others}: return getattr(w, "real"), others
    return lambda t: t + b
'''


def test_the_facts_of_a_program(analyser):
    found = read(analyser, EXAMPLE)
    assert found.functions == ("__init__", "top", "helper", "f")
    assert found.imports == ("collections", "math", "os.path")
    assert found.members == ("collections.defaultdict",)
    assert found.names == ("Box", "hash", "helper", "int", "math", "range", "size", "sorted")
    assert found.attributes == ("items", "pi", "real")
    assert found.parameters == (
        Parameter(ParameterKind.ONLY, "a", None),
        Parameter(ParameterKind.EITHER, "b", None),
        Parameter(ParameterKind.REST, "args", None),
        Parameter(ParameterKind.NAMED, "c", "[1, 2]"),
        Parameter(ParameterKind.NAMED, "d", "x0.pi"),
        Parameter(ParameterKind.OTHERS, "kw", None),
    )
    assert imports.facilities(found) == ("hash", "os")


def test_the_normal_form(analyser):
    assert read(analyser, EXAMPLE).normalised == (
        "import math as x0, os.path as x1\n"
        "from collections import defaultdict as x2\n\n"
        "class x3:\n"
        "    size = 3\n\n"
        "    def __init__(x4, x5):\n"
        "        x4.items = x5\n\n"
        "    def top(x6, *, key=None):\n"
        "        return sorted(x6.items, key=key)\n\n"
        "def x7(x8, x9=2):\n"
        "    return x7(x8 - 1, x9) if (x10 := (x8 > 0 and x9)) else [x11 for x11 in range(x9) if x11]\n\n"
        "def f(x12, /, x13, *x16, x14=[1, 2], x15=x0.pi, **x17):\n"
        "    match x12:\n"
        "        case x3(items=[x18, *x19]):\n"
        "            return hash(x13)\n"
        "        case {'k': x20, **x21}:\n"
        "            return (getattr(x20, 'real'), x21)\n"
        "    return lambda x22: x22 + x13"
    )


def test_measures_worked_out_by_hand(analyser):
    found = read(analyser, "def f(a):\n    if a > 1 and a < 9:\n        return a + 1\n    return -a")
    assert (found.nodes, found.depth, found.cyclomatic, found.cognitive) == (19, 6, 3, 2)
    # operators >, and, <, +, -; operands a, 1, 9 and the two comparisons
    assert found.halstead == Halstead(5, 5, 5, 9)
    assert read(analyser, "").cyclomatic == 1


def test_banned_words_of_the_paper_count_wherever_they_stand():
    assert imports.paper_words("# time flies\nfrom datetime import date\nos.path") == ("datetime", "os.path", "time")
    assert imports.paper_words("timeit(timer, my_time, a.time, sys.exits)") == ()


BANNED = {
    "import time": "time",
    "import numpy as np": "numpy",
    "import os, math": "os",
    "from time import time as t": "time",
    "from os import path": "os",
    "from . import x": ".",
    "def f(a):\n    import random": "random",
    "class A:\n    from random import random": "random",
    "__import__('time')": "time",
    "__import__('ti' + 'me')": "__import__",
    "i = __import__": "__import__",
    "__ｉｍｐｏｒｔ__('ti' 'me')": "time",
    "import ｔｉｍｅ": "time",
    "__builtins__['__import__']": "__builtins__",
    "__loader__.load_module('time')": "__loader__",
    "__spec__.loader": "__spec__",
    "import importlib": "importlib",
    "import importlib as i\ni.import_module('time')": "importlib",
    "from importlib import import_module as m\nm(x)": "importlib",
    "import builtins": "builtins",
    "eval('__imp' + 'ort__(1)')": "eval",
    "exec('import time')": "exec",
    "ｅｖａｌ('1')": "eval",
    "e = [eval]": "eval",
    "if 0:\n    eval = 1\neval('1')": "eval",
    "def f(a):\n    global exec\n    return exec('1')": "exec",
    "class A:\n    x = exec": "exec",
    "def f(a=exec): pass": "exec",
    "def f(a: exec('import time')): pass": "exec",
    "x: exec('import time') = 1": "exec",
    "@exec\ndef f(a): pass": "exec",
    "lambda a=[exec for _ in a]: 1": "exec",
    "compile('1', '', 'eval')": "compile",
    "globals()['__builtins__']": "globals",
    "locals()": "locals",
    "import collections\nvars(collections)['_sys']": "vars",
    "import collections\ncollections._sys.modules['time']": "_sys",
    "import collections as c\nd = c\nd._sys": "_sys",
    "from collections import _sys as s": "_sys",
    "import dataclasses\ndataclasses.sys": "sys",
    "from dataclasses import sys": "sys",
    "from enum import bltns": "bltns",
    "import statistics\nstatistics.random.random()": "random",
    "import contextlib\ncontextlib.os.environ": "os",
    "import collections\ngetattr(collections, '_sys')": "_sys",
    "import collections\ngetattr(collections, '_s' + 'ys')": "getattr",
    "g = getattr": "getattr",
    "import collections\nmatch collections:\n    case object(_sys=s): s.modules": "_sys",
    "from operator import attrgetter as g\ng('_sys.modules')": "attrgetter",
    "from operator import *\nattrgetter('_sys')": "attrgetter",
    "import operator\noperator.methodcaller('__getattribute__', '_sys')": "methodcaller",
    "object.__getattribute__(f, '__globals__')": "__getattribute__",
    "f.__globals__['__builtins__']": "__globals__",
    "print.__self__": "__self__",
    "().__class__.__base__.__subclasses__()": "__subclasses__",
    "import math\nmath.__loader__": "__loader__",
    "import math\nmath.__dict__": "__dict__",
    "def g(): yield\ng().gi_frame.f_back": "f_back",
    "try: 1 / 0\nexcept Exception as e: e.__traceback__.tb_frame": "__traceback__",
    "f.__code__.replace()": "__code__",
    "import string\nclass F(string.Formatter): pass": "Formatter",
    "import typing\ntyping.get_type_hints(f)": "get_type_hints",
    "from typing import ForwardRef": "ForwardRef",
    "from functools import singledispatch": "singledispatch",
    "import urllib.request": "urllib.request",
    "import urllib": "urllib",
    "from urllib import request": "urllib",
    "# coding: utf-7\nimport time": "time",
    "\x0cimport time": "time",
    "x = 1; import time": "time",
    "if x:\\\n  import time": "time",
    "import \\\n  time": "time",
    "async def g():\n    async with a as b:\n        import time": "time",
}


@pytest.mark.parametrize("source", BANNED)
def test_no_way_to_another_module_passes(analyser, source):
    assert imports.banned(read(analyser, source), PURE) == BANNED[source]


HONEST = (
    "import math, re, json\nfrom collections import Counter, deque\nfrom typing import *\nimport collections.abc",
    "from __future__ import annotations\nfrom urllib import parse\nimport urllib.parse",
    "import re\nre.compile('a')\nclass A:\n    def open(self): return self.input\n    def eval(self): return self.eval()",
    "def f(vars, eval, time):\n    return eval + vars + time.time",
    "def f(a):\n    return [getattr(a, 'real'), hasattr(a, a), a.__class__.__name__, id(a), hash(a)]",
    "'import time'  # import time",
)


@pytest.mark.parametrize("source", HONEST)
def test_what_is_pure_passes(analyser, source):
    assert imports.banned(read(analyser, source), PURE) is None


ON_PAPERS_LIST = {
    "import os": None,
    "import sys, shutil, numpy": None,
    "eval('1'); open('x')": None,
    "import xml.random": "random",
    "from x import time": "time",
    "import os.path": "os.path",
    "from os import path": "os.path",
    "import os\nos.path": "os.path",
    "from os import environ as e": "os.environ",
    "import sys\nsys.exit(1)": "sys.exit",
    "import datetime": "datetime",
    "__import__('hmac')": "hmac",
    "__import__(x)": "__import__",
    "from importlib import import_module": "importlib",
}


@pytest.mark.parametrize("source", ON_PAPERS_LIST)
def test_the_papers_list(analyser, source):
    assert imports.banned(read(analyser, source), PAPER) == ON_PAPERS_LIST[source]


def test_modules_that_the_config_allows(analyser):
    found = read(analyser, "import os, time\nfrom contextlib import os as o")
    assert imports.banned(found, SandboxConfig(allow_imports=("os", "time"))) is None
    assert imports.banned(found, SandboxConfig(allow_imports=("os",))) == "time"
    assert imports.banned(found, SandboxConfig(imports=Imports.PAPER, allow_imports=("time",))) is None


def test_modules_of_the_pure_list_hold_no_others_under_names_that_pass():
    """Over all attributes that are modules, as this very interpreter has them."""
    waiting, reached = [import_module(name) for name in imports.PURE], {}
    while waiting:
        for name, value in vars(waiting.pop()).items():
            if isinstance(value, ModuleType) and name not in imports._ATTRIBUTES and value.__name__ not in reached:
                reached[value.__name__] = name
                waiting.append(value)
    impure = imports._FACILITY_MODULES - {"importlib", "builtins"} | {
        "importlib",
        "builtins",
        "_io",
        "_thread",
        "posix",
    }
    assert not impure & {name.split(".")[0] for name in reached}


HOSTILE = {
    "(" * 5000: (Status.ERROR, "SyntaxError: too many nested parentheses (<program>, line 1)"),
    "-" * 50_000 + "1": (Status.MEMORY, "MemoryError"),
    "9" * 5000: (Status.ERROR, "SyntaxError: Exceeds the limit (4300 digits)"),
    "f(a": (Status.ERROR, "SyntaxError: '(' was never closed (<program>, line 1)"),
    "1\0": (Status.ERROR, "SyntaxError: source code string cannot contain null bytes"),
    "\ud800": (Status.ERROR, "UnicodeEncodeError"),
    "\ufeffx = 1": (Status.ERROR, "SyntaxError: invalid non-printable character U+FEFF"),
    "x = 1\n\tif x:": (Status.ERROR, "IndentationError"),
    "'" + "x" * 140_000 + "'": (Status.REJECTED, "a source of 140002 characters cannot be read"),
    "x = '\\U0010ffff" + "\U0010ffff" * 14_000 + "'": (Status.REJECTED, "facts of"),
}


def test_hostile_sources_are_refused_and_spoil_no_other(analyser):
    honest = [f"def f(a):\n    x = a + {number}" for number in range(len(HOSTILE) + 1)]
    mixed = [source for pair in zip(honest, HOSTILE, strict=False) for source in pair] + honest[-1:]
    found = dict(zip(mixed, analyser.facts(mixed), strict=True))
    assert [found[source].normalised for source in honest] == [
        f"def f(x0):\n    x1 = x0 + {number}" for number in range(len(honest))
    ]
    for source, (status, words) in HOSTILE.items():
        reading = found[source]
        assert isinstance(reading, NoFacts), ascii(source[:20])
        assert reading.status is status, reading
        assert reading.reason.startswith(words)


STRANGE = (
    "+".join(["a"] * 900),
    "x = " + "[" * 90 + "]" * 90,
    "\n".join(" " * depth + "if 1:" for depth in range(90)) + "\n" + " " * 90 + "pass",
    "lambda: " * 500 + "1",
    "x = 0x" + "f" * 5000,
    "x = 1e999 - 1e999j",
    "x\x0c = 1\n\x0c\ny = 2",
    "# -*- coding: rot13 -*-\nk = 1",
    "ℌ = ｘ = 1\nprint(H, x)",
    "def f(a):\n\treturn f'{a!r:>{a}} {{}} {a=}'",
    "while (n := next(i)) and n: pass\nelse: 'nothing'",
    "try: pass\nfinally: 'nothing'",
    "def f(*a, **k): return f(*a, **k)",
    "class A(B, metaclass=C):\n    'doc'\n    x: int\n    y: 'A' = x",
    "def g():\n    n = 0\n    def h():\n        nonlocal n\n        global m\n        n, m = 1, 2\n    return h",
    "async def f(a):\n    async for x in a:\n        yield await x\n    return",
    "with a as (b, c), d as e.f: del b, c[0]",
    "match x:\n    case [1, *_] | {'k': None, **r} | A(b, c=d) as e if e: pass",
    "try: pass\nexcept* E as e: print(e)",
    "return 1\nnonlocal z",
    "",
    "\n\n   # nothing\n",
    "'doc'",
)


@pytest.mark.parametrize("source", STRANGE)
def test_strange_sources_have_facts_and_a_stable_normal_form(analyser, source):
    once = read(analyser, source)
    assert read(analyser, once.normalised).normalised == once.normalised


def test_nothing_is_executed(analyser):
    source = "import os\nos._exit(0)\nwhile True: pass\ndef f(a=1 / 0): pass\n" + "x = 10 ** 10 ** 10"
    assert read(analyser, source).imports == ("os",)


SAME = {
    "names": ("def f(a, b):\n    c = a\n    return c + b", "def f(n, m):\n    total = n\n    return total + m"),
    "helpers": ("def g(a): return a\ndef f(a): return g(a)", "def first(x): return x\ndef f(y): return first(y)"),
    "classes": (
        "class A: pass\nclass B(A): pass\ndef f(a): return B",
        "class P: pass\nclass Q(P): pass\ndef f(a): return Q",
    ),
    "comments": ("def f(a):\n    return a", 'def f(a):  # a\n\n    """a"""\n    "b"\n    return (a)'),
    "annotations": (
        "def f(a):\n    b = a\n    return b",
        "def f(a: 'int') -> list[int] | None:\n    b: int = a\n    return b",
    ),
    "aliases": ("import math\ndef f(a): return math.pi", "import math as m\ndef f(a): return m.pi"),
    "scopes": ("def f(a): return [a for a in a]", "def f(a): return [b for b in a]"),
    "handlers": ("try: x\nexcept E as e: e", "try: x\nexcept E as err: err"),
    "numbers": ("def f(a): return 16", "def f(a): return 0x10"),
    "quotes": ("def f(a): return 'a' 'b'", 'def f(a): return "ab"'),
}
DIFFERENT = {
    "attributes": ("def f(a): return a.b", "def f(a): return a.c"),
    "builtins": ("def f(a): return len(a)", "def f(a): return sum(a)"),
    "keywords": ("def g(k): return k\ndef f(a): return g(k=a)", "def g(k): return k\ndef f(a): return g(j=a)"),
    "order": ("def f(a, b): return a - b", "def f(a, b): return b - a"),
    "shadowing": ("def f(a): return [a for b in a]", "def f(a): return [b for b in a]"),
    "globals": (
        "x = 1\ndef f(a):\n    x = a\n    return g()\ndef g(): return x",
        "x = 1\ndef f(a):\n    global x\n    x = a\n    return g()\ndef g(): return x",
    ),
    "own names": ("def g(): pass\ndef f(a): return g.__name__", "def h(): pass\ndef f(a): return h.__name__"),
    "enum names": (
        "import enum\nclass A(enum.Enum): X = 1\ndef f(a): return str(A.X)",
        "import enum\nclass B(enum.Enum): X = 1\ndef f(a): return str(B.X)",
    ),
    "fields": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x = 1",
    ),
    "class bodies": ("x = 1\nclass A:\n    x = x", "x = 1\nclass A:\n    y = x"),
    "annotations that count": (
        "from functools import singledispatch as s\n@s\ndef f(a: int): return a",
        "from functools import singledispatch as s\n@s\ndef f(a: str): return a",
    ),
    "types": ("def f(a): return 1", "def f(a): return True"),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_program_in_other_words(analyser, name):
    one, other = (read(analyser, source).normalised for source in SAME[name])
    assert one == other


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_programs(analyser, name):
    one, other = (read(analyser, source).normalised for source in DIFFERENT[name])
    assert one != other


def test_normal_forms_of_real_programs_do_what_the_programs_do(analyser):
    rows = [json.loads(line) for line in SEEDS.read_text().splitlines()]
    found = analyser.facts([row["program"] for row in rows])
    jobs = [
        Job(program=program, inputs=tuple(row["inputs"]), limits=Limits(cpu_s=2.0))
        for row, facts in zip(rows, found, strict=True)
        for program in (row["program"], facts.normalised)
    ]
    with Executor() as executor:
        done = executor.run(jobs)
    outputs = [(execution.status, execution.outputs) for execution in done]
    assert outputs[::2] == outputs[1::2]
    assert sum(status is Status.OK for status, _ in outputs) > 60


SIGNATURE = "def f(a, b=2, *, c={'k': 1}, d=g()): pass"
CALLS = {
    "1": ("1", "a=1", "1, 2", "b=2, a=1", "1, c={'k': 1}"),
    "1, d=5": ("b=2, d=5, a=1",),
    "1, 3": ("b=3, a=1",),
}


def test_the_same_call_in_other_words(analyser):
    parameters = read(analyser, SIGNATURE).parameters
    forms = {first: {bound(parameters, text) for text in (first, *others)} for first, others in CALLS.items()}
    assert {first: len(found) for first, found in forms.items()} == dict.fromkeys(CALLS, 1)
    assert len(set.union(*forms.values())) == len(CALLS)


@pytest.mark.parametrize(
    ("signature", "text", "form"),
    [
        ("def f(a, /, **k): pass", "1, a=2", "1; **{'a': 2}"),
        ("def f(a, *r): pass", "1, 2, 3", "1; *(2, 3)"),
        ("def f(a): pass", "1, 2", "1, 2"),  # no such call
        ("def f(a): pass", "b=1", "b=1"),
        ("def f(a, b): pass", "1", "1"),
        ("@g\ndef f(a): pass", "a=1", "a=1"),  # who knows what f is
        ("def f(a): pass\nf = g", "a=1", "a=1"),
        ("f = lambda a: a", "a=1", "a=1"),
        ("def f(a): return vars()", "a=1", "a=1"),
    ],
)
def test_calls_bound_to_parameters(analyser, signature, text, form):
    assert bound(read(analyser, signature).parameters, text) == form


class Taken:
    """A zygote whose child was taken over and writes this."""

    def __init__(self, *values, end=None, **_):
        self.report = {"seccomp": "on"}
        body = [wire.asked(value, Limits())[wire.HEADER.size :] for value in values]
        self._ends = end or [End(0, 0, 1, 1, wire.LENGTH.pack(len(data)) + data) for data in body]
        self._jobs = []

    def submit(self, job, _cpu_s, _request):
        self._jobs.append(job)

    def next_end(self, _limit):
        return (self._jobs.pop(0), self._ends[0]) if self._jobs else None

    def fileno(self):
        return 0

    def close(self):
        pass


GOOD = ("facts", "f", None, [[], [], [], [], []], [1, 1, 1], None, [0, 0, 0, 0])
FORGED = (
    1,
    [],
    ["facts"],
    [("facts",)],
    [GOOD, GOOD],
    [(*GOOD[:1], 5, *GOOD[2:])],
    [(*GOOD[:2], [("either", "a")], *GOOD[3:])],
    [(*GOOD[:2], [("neither", "a", None)], *GOOD[3:])],
    [(*GOOD[:3], [[], [], [], []], *GOOD[4:])],
    [(*GOOD[:3], [[], [], [], [], [1]], *GOOD[4:])],
    [(*GOOD[:4], [1, -1, 1], *GOOD[5:])],
    [(*GOOD[:4], [1, True, 1], *GOOD[5:])],
    [(*GOOD[:4], [1, 2**31, 1], *GOOD[5:])],
    [(*GOOD[:5], 0.5, GOOD[6])],
    [(*GOOD[:6], [0, 0, 0])],
    [("raised", 1, "x")],
)


@pytest.mark.parametrize("forged", FORGED)
def test_what_no_honest_child_writes_is_no_fact(monkeypatch, forged):
    monkeypatch.setattr(module, "Zygote", lambda **_: Taken(forged))
    with Analyser() as analyser:
        (found,) = analyser.facts(["x"])
    assert isinstance(found, NoFacts)
    assert found.status is Status.PROTOCOL


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (End(9, 1, 1, 1, b""), Status.TIMEOUT),
        (End(11, 0, 1, 1, b""), Status.CRASH),
        (End(24, 0, 1, 1, b""), Status.TIMEOUT),
        (End(71 << 8, 0, 1, 1, b""), Status.MEMORY),
        (End(0, 0, 1, 1, b"1234567"), Status.PROTOCOL),
        (End(0, 0, 1, 1, b""), Status.PROTOCOL),
    ],
)
def test_how_a_child_can_end(monkeypatch, end, status):
    monkeypatch.setattr(module, "Zygote", lambda **_: Taken(end=[end]))
    with Analyser() as analyser:
        assert {reading.status for reading in analyser.facts(["x", "y"])} == {status}


def test_a_lost_interpreter_is_replaced(analyser):
    with Analyser() as own:
        own._zygote.kill()
        assert own.facts(["x = 1", "import time"]) == analyser.facts(["x = 1", "import time"])


def test_many_are_read_in_order(analyser):
    sources = [f"x{number} = {number}\nimport math" for number in range(300)] * 2
    found = analyser.facts(sources)
    assert [one.normalised for one in found] == [f"x0 = {number}\nimport math as x1" for number in range(300)] * 2
    assert analyser.facts([]) == []
    assert sys.getrecursionlimit() < 20_000
