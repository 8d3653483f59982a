"""`azr audit`: is everything of a run as it was sealed, and does every number follow from the numbers before it?"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from flows.config import RunConfig, identity_hash, leaves
from flows.console import Gauge, Meter, Table, as_table, say, say_json, summary
from flows.launch import pick_run
from flows.session import stored_config
from flows.shares import in_processes, rules_of
from flows.version import code_version
from models.policy import context_length, resolve_base
from storage import layout
from storage.audit import anchor, attempts, chains, examined, read_all_seals
from storage.config import Key, flat
from storage.errors import AzrError
from storage.family import Member, family_of
from storage.findings import Report, Result, result, summed
from storage.ids import Position
from storage.seals import Seal, ledger_hash
from tasks.auditing.audit import audit_meaning
from tasks.auditing.execution import Instruments
from tasks.sandbox.analyser import Analyser
from tasks.sandbox.executor import Executor

CONFIG = "config"  # the check of run.json
ROWS_OF_A_PROCESS = 100_000  # fewer are checked sooner than another process is started
Seals = Mapping[Position, Seal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What was audited, and what came of it."""

    facts: Mapping[str, str]
    report: Report


def audit_run(root: Path, run: str | None, *, deep: bool, expect: str | None, as_json: bool) -> int:
    """Print what an audit of a run checked and found; 0 when nothing is wrong, 1 otherwise.

    Raises LedgerError when there is no such run, ConfigError when `expect` is no hash.
    """
    name = pick_run(root, run)
    found = audited(root, name, deep=deep, expect=expect, gauge=Meter(f"audit of {name}: steps"))
    if as_json:
        say_json({**found.facts, **_plain(found.report)})
    else:
        say(page(root, name, found))
    return int(bool(found.report.findings))


def audited(root: Path, name: str, *, deep: bool, expect: str | None, gauge: Gauge) -> Audited:
    """Audit a run. Raises LedgerError when it cannot be read at all, ConfigError when `expect` is no hash."""
    directory = layout.run_directory(root, name)
    seals, first = read_all_seals(directory)
    anchored = [] if expect is None else [anchor(seals, expect)]
    with closing(gauge):
        report = summed([*first, *chains(directory, seals), *_all(root, name, seals, gauge, deep=deep), *anchored])
    return Audited(facts=_facts(name, seals, deep=deep), report=report)


def _all(root: Path, name: str, seals: Seals, gauge: Gauge, *, deep: bool) -> Iterator[Result]:
    """Every check below the seals; without configs that read, only those that need none."""
    directory = layout.run_directory(root, name)
    try:
        members = family_of(directory).members
        configs = {member.directory: stored_config(root, member.directory.name) for member in members}
        rules_of(root, name)
    except AzrError as error:
        yield result(CONFIG, layout.RUN_FILE, 1, [f"{error}"], ["what the rows mean was not audited"])
        yield from (one for partition in examined(directory, seals) for one in partition.results)
    else:
        yield from (_config(member, configs[member.directory]) for member in members)
        steps = len({(at.iteration, at.round) for at in seals})
        for number, results in enumerate(_steps(root, name, seals, configs[directory], deep=deep)):
            gauge(number, steps)
            yield from results
    yield from attempts(directory, seals)


def _steps(root: Path, name: str, seals: Seals, config: RunConfig, *, deep: bool) -> Iterator[list[Result]]:
    """The results of every step; of a long run in several processes."""
    rows = sum(output.rows for seal in seals.values() for output in seal.outputs.values())
    processes = min(os.cpu_count() or 1, rows // ROWS_OF_A_PROCESS)
    if not deep and processes > 1:
        yield from in_processes(root, name, seals, processes)
        return
    with _instruments(config) if deep else nullcontext() as instruments:
        yield from audit_meaning(rules_of(root, name), examined(layout.run_directory(root, name), seals), instruments)


def _config(member: Member, config: RunConfig) -> Result:
    """Whether run.json holds the config whose hash it states; keys that came later are not in that hash."""
    facts, path = member.facts, member.directory / layout.RUN_FILE
    stored = {name for name, _ in flat(facts.config)}
    kept = {leaf.path: leaf.value for leaf in leaves(config) if leaf.key is Key.IDENTITY and leaf.path in stored}
    wrong = [] if facts.seed == config.seed else [f"{path} says seed {facts.seed}, its config {config.seed}"]
    if gone := sorted(stored - {leaf.path for leaf in leaves(config)}):
        note = f"the hash of the config of {facts.run} cannot be computed: this azr has no {', '.join(gone)}"
        return result(CONFIG, layout.RUN_FILE, len(kept), wrong, [note])
    if (found := identity_hash(kept)) != facts.config_hash:
        wrong.append(f"{path} was changed: its config hashes to {found[:12]}, it says {facts.config_hash[:12]}")
    return result(CONFIG, layout.RUN_FILE, len(kept), wrong)


@contextmanager
def _instruments(config: RunConfig) -> Iterator[Instruments]:
    from models.tokens import load_tokenizer

    base, sandbox = resolve_base(config.model.path), config.sandbox
    texts, positions = load_tokenizer(base), context_length(base)
    with (
        Executor(workers=sandbox.workers, allow_unsafe=sandbox.allow_unsafe) as executor,
        Analyser(allow_unsafe=sandbox.allow_unsafe) as analyser,
    ):
        yield Instruments(executor=executor, analyser=analyser, texts=texts, positions=positions)


def _facts(name: str, seals: Seals, *, deep: bool) -> dict[str, str]:
    followed = {before for seal in seals.values() for before in seal.before}
    last = next((seal for at, seal in seals.items() if str(at) not in followed), None)
    return {
        "run": name,
        "partitions": str(len(seals)),
        "ledger_hash": ledger_hash(seals.values()),
        "integrity": "" if last is None else last.integrity,
        "depth": f"deep: run again by azr {code_version()}, Python {platform.python_version()}"
        if deep
        else "stored values",
    }


def _plain(report: Report) -> dict[str, object]:
    return {
        "checks": [line._asdict() for line in report.lines],
        "findings": [finding._asdict() for finding in report.findings],
        "notes": list(report.notes),
    }


def page(root: Path, name: str, found: Audited) -> str:
    """An audit for people, ending with what to do next."""
    facts, report = found.facts, found.report
    parts = [summary(facts), as_table(Table(["check", "things checked", "findings"], report.lines))]
    if report.notes:
        parts.append("\n".join(["notes", *(f"  {note}" for note in report.notes)]))
    if report.findings:
        told = (f"  {one.where} ({one.check}): {one.what}" for one in report.findings)
        parts.append("\n".join([f"findings ({len(report.findings)})", *told]))
        parts.append("Nothing was changed. Restore what is named from a backup, and audit again.")
    else:
        again = layout.command("audit", root=root, run=name)
        parts.append(f"Nothing is wrong. Keep the ledger hash elsewhere, then: {again} --expect {facts['ledger_hash']}")
    return "\n\n".join(parts)
