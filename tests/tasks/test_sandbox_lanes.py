# ruff: noqa: E501 - tables
"""The fast lane: programs that attack those beside them, programs that must be able to take it, and equal verdicts."""

from collections.abc import Iterator

import pytest

from tasks.sandbox import outcomes, wire
from tasks.sandbox.executor import Execution, Executor, Job, Lane, Layer, Limits, Status
from tasks.sandbox.fleet import Fleet, Kind
from tasks.sandbox.values import parse_arguments
from tasks.sandbox.zygotes import Warmth

LIMITS = Limits(cpu_s=1.0)

SPOIL = "lambda *a, **k: [42]"
ATTACKERS = {
    "formatter": f"import string, heapq\ng = string.Formatter().get_field('0.__globals__', (heapq.nlargest,), {{}})[0]\ng['sorted'] = {SPOIL}",
    "type hints": "import typing\ndef g(x: \"__import__('heapq').__dict__.clear()\"): pass\ntyping.get_type_hints(g)",
    "forward reference": "from typing import List\nList[\"__import__('heapq').__dict__.clear()\"]",
    "match class": "import heapq\nFn = type(lambda: 0)\nmatch heapq.nlargest:\n    case Fn(__globals__=g):\n        g['sorted'] = None",
    "match args": "import heapq\nclass M:\n    __match_args__ = ('__globals__',)\nmatch heapq.nlargest:\n    case M(g): pass",
    "modules of modules": "import re\nre.enum.sys.modules['math'].pi = 3",
    "register": "import collections.abc\ncollections.abc.Sequence.register(int)",
    "register through typing": "import typing\ntyping.Sequence.register(int)",
    "store on a module": "import math\nmath.gcd = lambda *a: 42",
    "add to a module": "import math\nmath.pi += 1",
    "loop into a module": "import math\nfor math.pi in [3]: pass",
    "delete from a module": "import math\ndel math.sqrt",
    "a module under another name": "import math as m\nm.sqrt = m.gcd = lambda *a: 42",
    "a module in a list": "import math\nx = [math]\nx[0].gcd = lambda *a: 42",
    "import over a builtin": "import math as len",
    "from import of a module": "from collections import abc\nabc.Sequence = int",
    "import star": "from math import *\ndel sqrt",
    "store on a class": "from collections import Counter\nCounter.most_common = lambda s, n=None: [('z', 9)]",
    "store a new name on a class": "from collections import Counter\nCounter.secret = 7",
    "store through typing": "import typing\ntyping.Counter.secret = 7",
    "store on a function": "import heapq\nheapq.nlargest.secret = 7",
    "store on a flag": "import re\nre.I.secret = 7",
    "store on an alias": "from typing import List\nt = type(List[int])\nt.copy_with = None",
    "store on a metaclass": "from collections.abc import Sequence\ntype(Sequence).secret = 7",
    "store on a cache's record": "from functools import cache\nt = type(cache(len).cache_info())\nt.hits = 7",
    "store by a method": "from collections import Counter\nclass A:\n    def set(self): self.most_common = None\nA.set(Counter)",
    "delete from a class": "from collections import OrderedDict, Counter\ndel Counter.most_common",
    "class of a class": "class A: pass\nT = A().__class__.__class__\nT('B', (), {'__del__': lambda s: 1})",
    "type with three arguments": "T = type('T', (), {'__hash__': lambda s: 1, '__eq__': lambda s, o: True})\nx = {T(): 1}",
    "type by map": "T = list(map(type, ['T'], [()], [{'__del__': lambda s: 1}]))[0]\nT()",
    "type by partial": "from functools import partial\nT = partial(type, 'T', ())({'__reduce_ex__': 1})",
    "a metaclass in a cache": "import re\nclass M(type):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(str)\nclass S(str, metaclass=M):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash('a')\nre.compile(S('zzz'))",
    "a key in a cache": "import re\nclass S(str):\n    def __eq__(s, o): return True\n    def __hash__(s): return hash('a')\nre.compile(S('zzz')); re.findall(S('b'), 'b')",
    "a literal type": "from typing import Literal\nclass K:\n    def __eq__(s, o): return True\n    def __hash__(s): return hash(1)\nLiteral[K()]",
    "a parameter in a cache": "from typing import List, Union\nclass K:\n    pass\nList[K]; Union[K, int]",
    "del method": "class A:\n    def __del__(s): raise SystemExit\na = A()\na.me = a",
    "generator left open": "def g():\n    try: yield 1\n    finally:\n        while True: pass\ni = g(); next(i)\nx = [i]\nx.append(x)",
    "wraps": "from functools import wraps\nimport heapq\ndef evil(*a): return [42]\nwraps(evil, assigned=('__code__',))(heapq.nlargest)",
    "update wrapper": "import functools, heapq\nfunctools.update_wrapper(heapq.nlargest, print)",
    "total ordering": "import functools, collections\nfunctools.total_ordering(collections.Counter)",
    "copy": "import copy, heapq\nclass A:\n    def __reduce_ex__(s, p): return (lambda: heapq.nlargest, (), (None, {'__defaults__': (42,)}))\ncopy.copy(A())",
    "slots and copy": "import copy\nclass A:\n    __slots__ = ('__code__',)\ncopy.copy(A())",
    "setattr by name": "import math\nsetattr(math, 'pi', 3)",
    "setattr by a slot": "from collections import Counter\nobject.__setattr__(Counter(), 'x', 1)\ntype.__setattr__(Counter, 'most_common', None)",
    "super setattr": "class A:\n    def go(s): super().__setattr__('x', 1)\nA().go()",
    "attrgetter": "import operator, heapq\noperator.attrgetter('__globals__')(heapq.nlargest).clear()",
    "methodcaller": "import operator, heapq\noperator.methodcaller('__setattr__', 'x', 1)(heapq.nlargest)",
    "globals": "globals()['__builtins__']['len'] = lambda x: 42",
    "builtins": "__builtins__['len'] = lambda x: 42",
    "builtins of a function": "import heapq\nheapq.nlargest.__builtins__['len'] = None",
    "globals of a function": f"import heapq\nheapq.nlargest.__globals__['sorted'] = {SPOIL}",
    "defaults of a function": "import heapq\nheapq.nlargest.__kwdefaults__ = {'key': len}",
    "code of a function": "import heapq\nheapq.nlargest.__code__ = (lambda *a: 42).__code__",
    "annotations": "import heapq\nheapq.nlargest.__annotations__['x'] = 1",
    "dict of a flag": "import re\nre.I.__dict__['_value_'] = 0",
    "vars": "import re\nvars(re.I)['_value_'] = 0",
    "subclasses": "for c in object.__subclasses__():\n    try: c.__eq__ = None\n    except TypeError: pass",
    "frame of a generator": "def g(): yield\ni = g(); next(i)\ni.gi_frame.f_back.f_globals.clear()",
    "frame of an exception": "try: 1 / 0\nexcept Exception as e: e.__traceback__.tb_frame.f_back.f_globals.clear()",
    "frame in exit": "class A:\n    def __enter__(s): return s\n    def __exit__(s, k, e, t): t.tb_frame.f_back.f_globals.clear()\nwith A(): 1 / 0",
    "awaiting": "async def g(): pass\ng().cr_frame.f_builtins.clear()",
    "class lies": "class A(int):\n    __class__ = str\nx = A()",
    "getattribute": "class A:\n    def __getattribute__(s, n): return lambda *a: 42\nimport re\nre.compile(A())",
    "descriptor": "class D:\n    def __set_name__(s, o, n): o.__init__ = None\nclass A:\n    d = D()",
    "subclass hook": "from collections.abc import Sequence\nclass A(Sequence):\n    @classmethod\n    def __subclasshook__(c, o): return True",
    "init subclass": "from collections import Counter\nclass A(Counter):\n    def __init_subclass__(c): Counter.most_common = None\nclass B(A): pass",
    "enum": "import enum\nclass A(enum.Enum):\n    X = 1",
    "named tuple": "from collections import namedtuple\nT = namedtuple('T', 'a b', module='math')\nT._fields = ()",
    "exec": "exec(\"import math; math.pi = 3\")",
    "system": "import sys\nsys.setrecursionlimit(50)\nsys.stdout = None",
    "sys through a flag": "import sys\nsys.modules['math'].pi = 3",
    "seed": "import random\nrandom.seed(1)",
    "decimal context": "import decimal\ndecimal.getcontext().prec = 2",
    "warnings": "import warnings\nwarnings.simplefilter('error')",
    "collector": "import gc\ngc.enable()\nfor x in gc.get_objects():\n    if type(x) is dict: x.clear()",
    "recursion": "def g(n): return g(n + 1)\ntry: g(0)\nexcept RecursionError: pass",
    "memory kept in a cycle": "x = [bytes(150_000_000)]\nx.append(x)",
    "memory kept": "x = [0] * 15_000_000",
    "exit": "raise SystemExit",
    "interrupt": "raise KeyboardInterrupt",
    "text of an exception": "class E(Exception):\n    def __str__(s): raise SystemExit\nraise E",
    "print": "class F:\n    def write(s, x): raise SystemExit\nprint(1, file=F())",
}  # fmt: skip
VICTIMS = [
    ("def f(x):\n    return len(x) + 1", "[1, 2]", "3"),
    ("import math\ndef f(x):\n    return math.gcd(12, x), round(math.pi, 3), math.sqrt(x)", "16", "(4, 3.142, 4.0)"),
    ("import heapq\ndef f(x):\n    return heapq.nlargest(2, x)", "[1, 5, 3]", "[5, 3]"),
    ("from collections import Counter\ndef f(x):\n    return Counter(x).most_common(1)", "'aab'", "[('a', 2)]"),
    ("from collections import Counter\ndef f(x):\n    try: return Counter(x).secret\n    except AttributeError: return 0", "'a'", "0"),
    ("import re\ndef f(x):\n    return re.findall('a', x) + re.findall('A', x, re.I)", "'aba'", "['a', 'a', 'a', 'a']"),
    ("from typing import List, Union\ndef f(x: List[int]) -> Union[int, str]:\n    return sum(x)", "[1, 2]", "3"),
    ("from collections.abc import Sequence\ndef f(x):\n    return isinstance(x, Sequence), isinstance([], Sequence)", "1", "(False, True)"),
    ("from collections import namedtuple\nT = namedtuple('T', 'a b')\ndef f(x):\n    return T(x, 2)._asdict()", "1", "{'a': 1, 'b': 2}"),
    ("def f(x):\n    return isinstance(x, int), sorted([3, 1]), type(x).__name__", "1", "(True, [1, 3], 'int')"),
    ("def g(n):\n    try: return g(n + 1)\n    except RecursionError: return n\ndef f(x):\n    return 900 < g(0) < 1000", "1", "True"),
    ("def f(x):\n    try: return len(bytes(120_000_000))\n    except MemoryError: return 0", "1", "120000000"),
    ("class A:\n    def __init__(self, v): self.v = v\n    def __eq__(self, o): return self.v == o.v\n    def __hash__(self): return 1\ndef f(x):\n    return len({A(1), A(1), A(x)})", "2", "2"),
]  # fmt: skip


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    fleet = Fleet(frozenset(Layer))
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


def one_child(fleet: Fleet, programs: list[tuple[str, str]]) -> list[Execution | None]:
    """What a single child of the fast lane said, nothing confirmed; shorter when it ended early."""
    items = [wire.encoded_item(text, "f", [wire.encoded_call(parse_arguments(given))]) for text, given in programs]
    number = fleet.start(
        Kind(Warmth.SLIM, 0), 1.0, wire.request(items, LIMITS, together=True), wire.MAX_ANSWER * len(items)
    )
    while not (landings := fleet.wait(1.0)):
        pass
    assert landings[0].number == number
    assert landings[0].end is not None
    jobs = [Job(program=text, inputs=(given,)) for text, given in programs]
    frames = wire.shared_frames(landings[0].end.data, len(items))
    return [outcomes.shared(job, 0, frame, 0, 0) for job, frame in zip(jobs, frames, strict=False)]


@pytest.mark.parametrize("name", ATTACKERS)
def test_no_neighbour_is_spoiled_even_before_anything_is_confirmed(fleet: Fleet, name: str) -> None:
    inside = "\n".join("    " + line for line in ATTACKERS[name].splitlines())
    attackers = [
        (ATTACKERS[name] + "\ndef f(x):\n    return 1", "1"),
        (f"def f(x):\n{inside}\n    return 1" if "import *" not in inside else "def f(x): return 1", "1"),
    ]
    victims = [(text, given) for text, given, _ in VICTIMS]
    found = one_child(fleet, attackers + victims)
    for (text, _, expected), execution in zip(VICTIMS, found[2:], strict=False):
        assert execution is not None, text
        assert execution.outputs[0].text == expected, text


def test_without_an_attacker_every_victim_is_answered(fleet: Fleet) -> None:
    found = one_child(fleet, [(text, given) for text, given, _ in VICTIMS] * 2)
    assert [execution and execution.outputs[0].text for execution in found] == [text for *_, text in VICTIMS] * 2


def test_no_victim_is_spoiled_in_any_order(executor: Executor) -> None:
    attackers = [
        Job(program=f"{text}\ndef f(x): return 1", inputs=("1",), interpreters=2) for text in ATTACKERS.values()
    ]
    jobs, wanted = [], []
    for number, attacker in enumerate(attackers):
        jobs.append(attacker)
        for text, given, expected in VICTIMS[number % 3 :: 3]:
            jobs.append(Job(program=f"{text}\n#{number}", inputs=(given,), limits=LIMITS, interpreters=1 + number % 2))
            wanted.append((len(jobs) - 1, expected))
    found = executor.run(jobs)
    assert [found[at].outputs[0].text for at, _ in wanted] == [expected for _, expected in wanted]


TAME = [
    "def f(x):\n    return [y * y for y in range(x)]",
    "def g(n):\n    yield from range(n)\ndef f(x):\n    return list(g(x)), sum(y for y in g(x))",
    "class Node:\n    def __init__(self, v, nxt=None):\n        self.value = v\n        self._next = nxt\ndef f(x):\n    n = Node(x, Node(2))\n    return n._next.value",
    "class A:\n    count = 0\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x); return self\n    def __len__(self): return len(self.items)\n    def __repr__(self): return f'A({self.items})'\nclass B(A):\n    def __init__(self): super().__init__(); self.extra = 1\n    @property\n    def last(self): return self.items[-1]\n    @staticmethod\n    def k(): return 3\n    @classmethod\n    def make(cls): return cls()\ndef f(x):\n    b = B.make().push(x)\n    return len(b), repr(b), b.last, b.k(), b.__class__.__name__, type(b).__name__",
    "class P:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n    def __lt__(self, o): return self.x < o.x\n    def __hash__(self): return hash(self.x)\ndef f(x):\n    return sorted([P(3), P(x)])[0].x, P(1) == P(1), len({P(1), P(1)})",
    "class Bad(ValueError):\n    pass\ndef f(x):\n    try:\n        raise Bad('no')\n    except ValueError as e:\n        return str(e), e.args",
    "from collections import Counter, defaultdict, deque, namedtuple\nP = namedtuple('P', 'x y')\ndef f(x):\n    d = defaultdict(list)\n    d[1].append(x)\n    return dict(d), list(deque([1, x], maxlen=1)), P(1, x)._replace(x=3).x, Counter('aab').most_common(1)",
    "from functools import lru_cache, reduce, partial, cmp_to_key\n@lru_cache(maxsize=None)\ndef g(n):\n    return n if n < 2 else g(n - 1) + g(n - 2)\ndef f(x):\n    return g(20), reduce(lambda a, b: a * b, [1, 2, x]), partial(pow, 2)(x), sorted([2, 1], key=cmp_to_key(lambda a, b: a - b)), g.cache_info().maxsize",
    "import math, re, string, heapq, itertools, bisect, operator\ndef f(x):\n    return math.factorial(x), re.sub(r'\\d', '', 'a1'), string.ascii_lowercase[:2], heapq.nsmallest(1, [2, 1]), list(itertools.combinations('abc', 2)), bisect.bisect([1, 3], 2), operator.itemgetter(0)([x])",
    "from typing import Dict, List, Optional\nimport collections\ndef f(x: Optional[int]) -> Dict[str, List[int]]:\n    return {'{} {:>3}'.format(x, 'a'): [x], f'{x!r:>4}': list(collections.Counter([1]))}",
    "def f(x):\n    match x:\n        case [a, b]: return a\n        case {'k': v}: return v\n        case _: return -1",
    "def deco(g):\n    def inner(*a, **k):\n        return g(*a, **k) + 1\n    return inner\n@deco\ndef f(x):\n    return x\nif __name__ == '__main__':\n    print(f(1))",
]  # fmt: skip


@pytest.mark.parametrize("text", TAME)
def test_ordinary_programs_take_the_fast_lane(executor: Executor, text: str) -> None:
    jobs = [Job(program=f"{text}\n# {n}", inputs=("3", "2"), interpreters=2) for n in range(2)]
    for execution in executor.run(jobs):
        assert (execution.status, execution.reason) == (Status.OK, None)
        assert execution.lane is Lane.FAST


APART = {
    "a generator's frame": "def g(): yield\ndef f(x):\n    i = g(); next(i); return i.gi_frame.f_lineno",
    "an import that is not there": "def f(x):\n    try:\n        import numpy\n        return 1\n    except ImportError: return 2",
    "a name of a module that is not offered": "import math\ndef f(x): return math.__name__, math.nothing",
    "getattr": "def f(x): return getattr(x, 'real')",
    "a class of a class": "class A: pass\ndef f(x): return type(A).__name__",
    "exit": "import sys\ndef f(x): sys.exit(1)",
    "recursion": "def f(x): return f(x)",
    "memory": "def f(x): return bytes(10 ** 12)",
    "loop": "def f(x):\n    while True: pass",
    "an object": "def f(x): return object",
    "a coin": "def f(x): return list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})",
    "an address": "class A: pass\ndef f(x): return str(A())",
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_what_is_not_plain_is_found_alone_as_if_there_were_no_other_lane(executor: Executor, name: str) -> None:
    jobs = [Job(program=f"{APART[name]}\n#{n}", inputs=("1",), limits=Limits(cpu_s=0.2), interpreters=2) for n in "ab"]
    with Executor(workers=1, lanes=frozenset({Lane.SLOW})) as slow:
        alone = slow.run(jobs)
    for execution, wanted in zip(executor.run(jobs), alone, strict=True):
        assert execution.lane is Lane.SLOW
        assert execution.status is wanted.status
        if execution.status is not Status.NONDETERMINISTIC:
            assert (execution.reason, execution.outputs) == (wanted.reason, wanted.outputs)


def test_a_glutton_never_makes_a_neighbour_late(executor: Executor) -> None:
    greedy = Job(program="def f(x):\n    while True: pass", inputs=("1",), limits=Limits(cpu_s=0.2))
    honest = [
        Job(program=f"def f(x): return sum(range({n}000)) + x", inputs=("1",), limits=Limits(cpu_s=0.2))
        for n in range(40)
    ]
    found = executor.run([greedy, *honest, greedy, *honest])
    assert [execution.status for execution in found if execution.status is not Status.OK] == [Status.TIMEOUT] * 2


@pytest.mark.parametrize(
    "text",
    [
        "n = 0\ndef f(x):\n    global n\n    n = (n + 1) % 2\n    return n",
        "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)",
        "class A:\n    n = 0\ndef f(x):\n    A.n += 1\n    return A.n",
    ],
)
def test_state_between_calls_is_found_even_when_it_is_the_same_in_both_orders(executor: Executor, text: str) -> None:
    jobs = [Job(program=f"{text}\n# {n}", inputs=("1", "2", "3"), interpreters=2) for n in range(3)]
    assert {execution.status for execution in executor.run(jobs)} == {Status.NONDETERMINISTIC}


def test_the_depth_of_recursion_is_the_same_in_both_lanes(executor: Executor) -> None:
    text = "def g(n):\n    try: return g(n + 1)\n    except RecursionError: return n\ndef f(x): return g(0)"
    with Executor(workers=1, lanes=frozenset({Lane.SLOW})) as slow:
        alone = slow.run([Job(program=text, inputs=("1",))])[0]
    fast = executor.run([Job(program=f"{text}\n#{n}", inputs=("1",), interpreters=2) for n in range(4)])
    assert {(one.outputs[0].text, one.lane) for one in fast} == {(alone.outputs[0].text, Lane.FAST)}
