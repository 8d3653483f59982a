"""`azr rescore`: what a run would have paid by another reward rule, or after other verdicts, beside what it paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.aside import aside
from flows.config import RunConfig, resolve
from flows.console import Gauge, Meter, Table, as_table, say, say_json
from flows.launch import pick_run
from flows.look import records
from flows.session import stored_config
from storage import layout
from storage.database import Result, query
from storage.errors import ConfigError, LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Answer
from storage.rescored import replacing, table_of
from tasks.config import Curve, RewardConfig
from tasks.rescoring import Rule, rescore, stored_answers
from tasks.workshop import Workshop

_TOTALS = """
SELECT role, mode, rewards, paid, would_be, changed, verdicts_changed
FROM rescored_totals WHERE rule = '{rule}' ORDER BY role, mode"""
_EXAMPLES = """
SELECT id, paid, would_be, paid_verdict, verdict
FROM rescored WHERE rule = '{rule}' AND {condition} ORDER BY rollout_id LIMIT 3"""
_QUESTION = "SELECT * FROM rescored WHERE run = '{run}' AND rule = '{rule}' LIMIT 5"
_CHANGES = {
    "first changed verdicts": "paid_verdict <> verdict",
    "first changed rewards": "paid <> would_be",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """What was rescored, where it lies, and the answers that are shown."""

    facts: Mapping[str, str]
    file: Path
    found: Mapping[str, Result]


def rescore_run(
    root: Path,
    run: str | None,
    *,
    first: int,
    last: int | None,
    curve: str | None,
    reward: Path | None,
    verifier: str | None,
    name: str | None,
    as_json: bool,
) -> int:
    """Write the side table of one rule over a range of iterations, and print what it changes.

    Raises:
        ConfigError: none of curve, reward and verifier is given, or several are, or the file has no rewards.
        LedgerError: there is no such run, nothing of the range is verified, or a file is not what was sealed.
    """
    ran = pick_run(root, run)
    rule = rule_of(stored_config(root, ran), curve, reward, verifier, name)
    meter = Meter(f"rescoring {ran} as {rule.name}: iterations")
    done = rescored(root, ran, rule, first=first, last=last, gauge=meter)
    if as_json:
        tables = {what: records(result) for what, result in done.found.items()}
        say_json({**done.facts, "file": str(done.file), **tables})
    else:
        say(page(root, done))
    return 0


def rescored(root: Path, ran: str, rule: Rule, *, first: int, last: int | None, gauge: Gauge) -> Rescored:
    """Write the side table of one rule over a range of iterations.

    Raises LedgerError when nothing of the range is verified, or a file is not what was sealed.
    """
    file = table_of(layout.run_directory(root, ran), rule.name)
    wanted = _verified(Ledger.open(root, ran), first, last)
    with (
        aside(root, ran, gauge=gauge, total=len(wanted)) as work,
        replacing(work.ledger.directory, rule.name) as write,
    ):
        for at in wanted:
            work.reporter.begin(at)
            write(rescore(work, at, rule))
            work.reporter.end(at, "")
    found = {"totals": query(root, _TOTALS.format(rule=rule.name), ran)}
    for what, condition in _CHANGES.items():
        found[what] = query(root, _EXAMPLES.format(rule=rule.name, condition=condition), ran)
    facts = {"run": ran, "rule": rule.name, "iterations": f"{wanted[0].iteration} to {wanted[-1].iteration}"}
    return Rescored(facts=facts, file=file, found=found)


def rule_of(config: RunConfig, curve: str | None, reward: Path | None, verifier: str | None, name: str | None) -> Rule:
    """The rule meant; raises ConfigError unless exactly one of curve, reward and verifier is given."""
    if sum(one is not None for one in (curve, reward, verifier)) != 1:
        raise ConfigError(
            "azr rescore takes one of --curve, --reward and --verifier. Nothing was done. "
            "Try: azr rescore --curve variance"
        )
    if curve is not None:
        ladder = config.rewards.model_copy(update={"learnability": Curve(curve)})
        return Rule(name=name or curve, rewards=ladder, answers=stored_answers)
    if reward is not None:
        return Rule(name=name or reward.stem, rewards=_ladder(config, reward), answers=stored_answers)
    return Rule(name=name or f"verifier-{verifier}", rewards=config.rewards, answers=_judged)


def _judged(work: Workshop, at: Position) -> Sequence[Answer]:
    from tasks.verify import judged  # brings prefect, whose home is aside by now

    return judged(work, at)


def _ladder(config: RunConfig, file: Path) -> RewardConfig:
    """The rewards of a file; what it does not say stays as the run has it."""
    found = resolve(file, base=config)
    if not any(path.startswith("rewards.") and source == str(file) for path, source in found.sources.items()):
        raise ConfigError(f'{file} says nothing about rewards. Nothing was done. Give it a section "[rewards]".')
    return found.config.rewards


def _verified(ledger: Ledger, first: int, last: int | None) -> list[Position]:
    verified = [seal.position for seal in ledger.sealed() if seal.stage is Stage.VERIFY]
    found = [at for at in verified if first <= at.iteration and (last is None or at.iteration <= last)]
    if not found:
        raise LedgerError(
            f"Run {ledger.run} has no verified iteration from {first} to {'its last' if last is None else last}. "
            f"Nothing was done. What is sealed: {layout.command('status', root=ledger.root, run=ledger.run)}"
        )
    return found


def page(root: Path, done: Rescored) -> str:
    """What a rule would have paid, for people."""
    facts, found = done.facts, done.found
    parts = ["Run {run}, iterations {iterations}, rescored as {rule}. What is sealed is as it was.".format(**facts)]
    for what, result in found.items():
        if result.rows:
            title = "" if what == "totals" else f"{what}\n"
            parts.append(title + as_table(Table(result.columns, result.rows)))
    parts.append(f"Next: {layout.command('sql', _QUESTION.format(**facts), root=root)}")
    return "\n\n".join(parts)
