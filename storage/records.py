"""The rows of the ledger: one frozen record per table, and the one definition of every column.

A field is ``name: Annotated[python type, Column(kind, "meaning")]``. Arrow schemas (storage.schemas), views, docs and
content hashes are all derived from these definitions. Columns marked *measured* (times, memory) vary from one
execution to the next and stay out of content hashes; so do reasons, which may quote what a nondeterministic program
printed. All others are *content*. Columns are only ever added.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar, NamedTuple
from uuid import UUID

from storage.ids import Mode, Role, Source

VALID = "valid"  # verdict of a task that was not rejected


class Kind(Enum):
    """The stored type of a column."""

    INT32 = "int32"
    INT64 = "int64"
    DOUBLE = "double"
    TEXT = "text"
    UUID = "uuid"
    TEXTS = "list of text"
    INTS = "list of int32"
    FLOATS = "list of float32"


class Column(NamedTuple):
    """A stored column: its type, its meaning, and whether it is measured (not part of the content hash)."""

    kind: Kind
    meaning: str
    measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every table has: where in the run the row was made. `table` is the table's name."""

    table: ClassVar[str]
    key: ClassVar[tuple[str, ...]]  # canonical row order, unique within a run

    iteration: Annotated[int, Column(Kind.INT32, "iteration of the run; 0 is the bootstrap")]
    round: Annotated[int, Column(Kind.INT32, "bootstrap round; 0 in every later iteration")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Row):
    """One prompt and one completion, of either role."""

    table: ClassVar[str] = "rollouts"
    key: ClassVar[tuple[str, ...]] = ("rollout_id",)

    rollout_id: Annotated[int, Column(Kind.INT64, "positional id; a proposer's is also the id of the task it proposes")]
    content_key: Annotated[UUID, Column(Kind.UUID, "hash of prompt and completion; equal for equal rollouts")]
    role: Annotated[Role, Column(Kind.TEXT, "proposer or solver")]
    mode: Annotated[Mode, Column(Kind.TEXT, "deduction, abduction, induction or error")]
    task_id: Annotated[int, Column(Kind.INT64, "the task proposed, or the task solved")]
    source: Annotated[
        Source, Column(Kind.TEXT, "proposal; for solvers new (probes of a new task) or buffer (an earlier task)")
    ]
    slot: Annotated[int, Column(Kind.INT32, "position within the stage and mode")]
    sample: Annotated[int, Column(Kind.INT32, "which of the samples of one prompt")]
    policy: Annotated[str, Column(Kind.TEXT, "hash of the weights that sampled the completion")]
    policy_iteration: Annotated[int, Column(Kind.INT32, "iteration whose update published that policy, for reading")]
    seed: Annotated[int, Column(Kind.INT64, "seed of the sampler")]
    temperature: Annotated[float, Column(Kind.DOUBLE, "sampling temperature")]
    top_p: Annotated[float, Column(Kind.DOUBLE, "nucleus mass; 1 is off")]
    max_tokens: Annotated[int, Column(Kind.INT32, "limit on completion tokens")]
    prompt: Annotated[str, Column(Kind.TEXT, "prompt as text")]
    completion: Annotated[str, Column(Kind.TEXT, "completion as text, without the end token")]
    finish_reason: Annotated[str, Column(Kind.TEXT, "stop (the model ended) or length (cut at max_tokens)")]
    prompt_tokens: Annotated[int, Column(Kind.INT32, "number of prompt tokens")]
    completion_tokens: Annotated[int, Column(Kind.INT32, "number of completion tokens, the end token included")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Row):
    """The token ids and log-probabilities of one rollout; apart, so that they can be dropped alone."""

    table: ClassVar[str] = "tokens"
    key: ClassVar[tuple[str, ...]] = ("rollout_id",)

    rollout_id: Annotated[int, Column(Kind.INT64, "the rollout")]
    prompt_ids: Annotated[tuple[int, ...], Column(Kind.INTS, "prompt token ids")]
    completion_ids: Annotated[tuple[int, ...], Column(Kind.INTS, "sampled token ids, the end token included")]
    logprobs: Annotated[
        tuple[float, ...],
        Column(Kind.FLOATS, "log-probability of each sampled token at the sampling temperature, by the engine"),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskParent(Row):
    """One reference that a proposal was shown (for induction: the task whose program it was given)."""

    table: ClassVar[str] = "task_parents"
    key: ClassVar[tuple[str, ...]] = ("task_id", "position")

    task_id: Annotated[int, Column(Kind.INT64, "the proposal")]
    position: Annotated[int, Column(Kind.INT32, "order of the reference in the prompt")]
    parent_id: Annotated[int, Column(Kind.INT64, "the earlier task shown")]
    parent_iteration: Annotated[int, Column(Kind.INT32, "iteration of that task")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Row):
    """One proposal after validation: a valid task, or a rejection with its reason."""

    table: ClassVar[str] = "tasks"
    key: ClassVar[tuple[str, ...]] = ("task_id",)

    task_id: Annotated[int, Column(Kind.INT64, "positional id, equal to its proposal's rollout_id")]
    content_key: Annotated[
        UUID | None,
        Column(
            Kind.UUID,
            "hash of mode, normalised program, bound inputs and message; shared by duplicates; null when unparsed",
        ),
    ]
    program_key: Annotated[UUID | None, Column(Kind.UUID, "hash of the program text; null when unparsed")]
    mode: Annotated[Mode, Column(Kind.TEXT, "deduction, abduction, induction or error")]
    format: Annotated[str, Column(Kind.TEXT, "ok, or how the completion broke the format")]
    verdict: Annotated[str, Column(Kind.TEXT, "valid, or the word of the rejection")]
    reason: Annotated[str | None, Column(Kind.TEXT, "the rejection in words, with values", measured=True)]
    program: Annotated[str | None, Column(Kind.TEXT, "source text, entry function f")]
    inputs: Annotated[
        tuple[str, ...], Column(Kind.TEXTS, "argument lists as canonical literals: one, for induction several")
    ]
    outputs: Annotated[
        tuple[str, ...],
        Column(Kind.TEXTS, "gold outputs as canonical literals, in the order of inputs; empty when rejected before"),
    ]
    visible: Annotated[
        int, Column(Kind.INT32, "how many of the pairs an induction solver is shown; the rest are hidden")
    ]
    message: Annotated[str | None, Column(Kind.TEXT, "induction: the proposer's hint")]
    cpu_us: Annotated[
        int, Column(Kind.INT64, "CPU time of validating it, both interpreters, microseconds", measured=True)
    ]
    memory_kb: Annotated[int, Column(Kind.INT64, "largest resident memory of its processes", measured=True)]
    # Static facts: null where the program was not looked at (rejected before, or no program), and in older ledgers.
    normalised_key: Annotated[
        UUID | None,
        Column(Kind.UUID, "hash of the program in normal form: other names, comments or layout are the same program"),
    ] = None
    imports: Annotated[
        tuple[str, ...] | None, Column(Kind.TEXTS, "modules that the program imports, dotted, sorted")
    ] = None
    facilities: Annotated[
        tuple[str, ...] | None,
        Column(
            Kind.TEXTS, "what of clocks, chance, identity and the machine the program names: hash, time, ..., sorted"
        ),
    ] = None
    paper_words: Annotated[
        tuple[str, ...] | None,
        Column(Kind.TEXTS, "banned words of arXiv 2505.03335 anywhere in the text, comments included, sorted"),
    ] = None
    source_lines: Annotated[int | None, Column(Kind.INT32, "lines of the program that are not blank")] = None
    ast_nodes: Annotated[int | None, Column(Kind.INT32, "nodes of the syntax tree, less operators and contexts")] = None
    ast_depth: Annotated[int | None, Column(Kind.INT32, "nodes on the longest way from the tree's root down")] = None
    cyclomatic: Annotated[
        int | None, Column(Kind.INT32, "cyclomatic complexity: one more than the decisions in the program")
    ] = None
    cognitive: Annotated[
        int | None, Column(Kind.INT32, "cognitive complexity of all functions, by complexipy; null where that fails")
    ] = None
    distinct_operators: Annotated[int | None, Column(Kind.INT32, "Halstead: distinct operators, n1")] = None
    distinct_operands: Annotated[int | None, Column(Kind.INT32, "Halstead: distinct operands, n2")] = None
    total_operators: Annotated[int | None, Column(Kind.INT32, "Halstead: operators in all, N1")] = None
    total_operands: Annotated[
        int | None,
        Column(
            Kind.INT32,
            "Halstead: operands in all, N2; volume is (N1 + N2) * log2(n1 + n2), difficulty n1 / 2 * N2 / n2",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Row):
    """One solver rollout, parsed and judged."""

    table: ClassVar[str] = "answers"
    key: ClassVar[tuple[str, ...]] = ("rollout_id",)

    rollout_id: Annotated[int, Column(Kind.INT64, "the solver's rollout")]
    content_key: Annotated[UUID | None, Column(Kind.UUID, "hash of task content and answer; null when unparsed")]
    task_id: Annotated[int, Column(Kind.INT64, "the task answered")]
    mode: Annotated[Mode, Column(Kind.TEXT, "mode of the task")]
    format: Annotated[str, Column(Kind.TEXT, "ok, or how the completion broke the format")]
    answer: Annotated[str | None, Column(Kind.TEXT, "what was extracted: an output, an argument list or a program")]
    verdict: Annotated[
        str, Column(Kind.TEXT, "correct, wrong, unparsed, or what the answer's program did (error, timeout, ...)")
    ]
    reason: Annotated[str | None, Column(Kind.TEXT, "why it is not correct, in words, with values", measured=True)]
    passed: Annotated[int, Column(Kind.INT32, "checks passed (induction: hidden pairs; else 0 or 1)")]
    checks: Annotated[int, Column(Kind.INT32, "checks made")]
    cpu_us: Annotated[int, Column(Kind.INT64, "CPU time of judging it, microseconds", measured=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward(Row):
    """The reward of one rollout: the total, and the named parts it was computed from."""

    table: ClassVar[str] = "rewards"
    key: ClassVar[tuple[str, ...]] = ("rollout_id",)

    rollout_id: Annotated[int, Column(Kind.INT64, "the rollout rewarded")]
    content_key: Annotated[UUID, Column(Kind.UUID, "hash of rule, parts and total")]
    role: Annotated[Role, Column(Kind.TEXT, "proposer or solver")]
    mode: Annotated[Mode, Column(Kind.TEXT, "mode of the task")]
    task_id: Annotated[int, Column(Kind.INT64, "the task proposed or solved")]
    rule: Annotated[str, Column(Kind.TEXT, "name of the reward rule")]
    total: Annotated[float, Column(Kind.DOUBLE, "the reward")]
    rung: Annotated[
        str,
        Column(Kind.TEXT, "which rung of the ladder decided: format, invalid, unlearnable, learnable, wrong, correct"),
    ]
    accuracy: Annotated[float | None, Column(Kind.DOUBLE, "solver: share of checks passed, or 0 and 1, by config")]
    solve_rate: Annotated[
        float | None, Column(Kind.DOUBLE, "proposer of a valid task: share of its probes judged correct")
    ]
    probes: Annotated[int | None, Column(Kind.INT32, "proposer of a valid task: number of those probes")]
    learnability: Annotated[float | None, Column(Kind.DOUBLE, "proposer of a valid task: the curve at solve_rate")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage(Row):
    """What the update made of one reward; never stored in the reward."""

    table: ClassVar[str] = "advantages"
    key: ClassVar[tuple[str, ...]] = ("rollout_id",)

    rollout_id: Annotated[int, Column(Kind.INT64, "the rollout")]
    role: Annotated[Role, Column(Kind.TEXT, "proposer or solver: with mode, the TRR++ group")]
    mode: Annotated[Mode, Column(Kind.TEXT, "mode of the task")]
    advantage: Annotated[float, Column(Kind.DOUBLE, "(reward - baseline) / scale; 0 where the group has no variance")]
    baseline: Annotated[float, Column(Kind.DOUBLE, "mean reward of the group")]
    scale: Annotated[float, Column(Kind.DOUBLE, "standard deviation of the group")]
    weight: Annotated[
        float, Column(Kind.DOUBLE, "weight of this rollout in the loss; all weights of an update sum to 1")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMetric(Row):
    """One number about an update, in long form: names are open-ended."""

    table: ClassVar[str] = "update_metrics"
    key: ClassVar[tuple[str, ...]] = ("step", "name", "role", "mode")

    step: Annotated[int, Column(Kind.INT32, "optimizer step within the update, from 0")]
    name: Annotated[str, Column(Kind.TEXT, "loss, grad_norm, entropy, kl_engine, ratio_max, ...")]
    role: Annotated[str, Column(Kind.TEXT, "proposer, solver, or all")]
    mode: Annotated[str, Column(Kind.TEXT, "a mode, or all")]
    value: Annotated[float, Column(Kind.DOUBLE, "the number")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Row):
    """One published policy: weights by hash, where they lie, and what is needed to train on."""

    table: ClassVar[str] = "checkpoints"
    key: ClassVar[tuple[str, ...]] = ("iteration", "round")

    policy: Annotated[str, Column(Kind.TEXT, "hash of weights, config and tokenizer: the policy's name")]
    parent: Annotated[str | None, Column(Kind.TEXT, "policy the update started from; null for the base")]
    optimizer: Annotated[
        str | None, Column(Kind.TEXT, "hash of the optimizer state (masters, moments, step); null for the base")
    ]
    directory: Annotated[
        str | None, Column(Kind.TEXT, "directory below the run; null for the base, which is named by the config")
    ]
    optimizer_steps: Annotated[int, Column(Kind.INT32, "optimizer steps since the base")]
    parameters: Annotated[int, Column(Kind.INT64, "number of weights")]
    bytes: Annotated[int, Column(Kind.INT64, "size of the files that transformers loads")]


ROWS: tuple[type[Row], ...] = (Rollout, Tokens, TaskParent, Task, Answer, Reward, Advantage, UpdateMetric, Checkpoint)
