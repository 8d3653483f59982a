"""What is shown on Prefect's pages: nothing a model wrote is markup there, and numbers are those of the named SQL."""

import base64
import json
import os
import re
import signal
import urllib.request
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from azr_process import Person, await_stage, sealed, tiny, until
from markdown_it import MarkdownIt

from flows.artifacts import (
    answer_example,
    one_per_kind,
    reward_table,
    rollout_example,
    rollout_table,
    stage_page,
    task_example,
    verdict_table,
)
from flows.curves import Curves, point
from flows.markdown import COLUMNS, LINES, code, excerpt, plain, slug, table, visible
from flows.pictures import picture, svg
from flows.story import iteration_page, mlflow_page, training_page
from storage.database import query
from storage.ids import Position, Stage
from storage.layout import MLFLOW_LINK
from storage.ledger import Ledger
from storage.records import Answer, Rollout, Task

FIXTURE = Path(__file__).parents[1] / "storage" / "data" / "first_light"
HOSTILE = (
    "```\n# out of the fence\n```",
    "~~~\n````python\n`````\n<script>alert(1)</script>",
    "<img src=x onerror=alert(1)> | a | b |\n|---|---|\n[link](javascript:alert(1)) ![i](http://x.example/y.png)",
    "</code></pre><iframe src='http://x.example'></iframe> http://x.example &lt;b&gt; \\",
    "def f(a):\n\treturn '\u202e\x00\x1b[31m\ud800\u2028'",
    "    indented\n> quoted\n- listed\n1. numbered\n---\n",
    "x" * 100_000,
    "y\n" * 10_000,
    "`",
    "",
)
ACTIVE = {
    "html_block",
    "html_inline",
    "image",
    "link_open",
    "heading_open",
    "bullet_list_open",
    "blockquote_open",
    "hr",
}


def tokens(markdown):
    """What a Markdown parser makes of a text: blocks and what is within lines."""
    blocks = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").parse(markdown)
    return [part for block in blocks for part in (block, *(block.children or []))]


def kinds(markdown):
    return {token.type for token in tokens(markdown)}


@pytest.fixture(scope="module")
def ledger():
    return Ledger.open(FIXTURE.parent, "first_light")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_model_wrote_stays_in_its_fence(text):
    found = tokens(f"{excerpt(text)}\n\nafter")
    assert [token.type for token in found] == ["fence", "paragraph_open", "inline", "text", "paragraph_close"]
    content = found[0].content
    assert content.count("\n") <= LINES + 2
    assert max(map(len, content.splitlines()), default=0) <= COLUMNS + 30
    json.dumps(content).encode()
    content.encode()  # no lone surrogate is left, which a server could not take


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_line_of_text_shows_as_it_is(text):
    short = text[:300]
    found = tokens(f"a {plain(short)} b")
    assert kinds(f"a {plain(short)} b") <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    shown = "".join(token.content for token in found if token.type in ("text", "text_special"))
    assert shown.split() == f"a {visible(short)} b".split()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_cell_of_text_stays_one_cell(text):
    rows = [(text[:300], 1), ("plain", 2_000_000)]
    found = tokens(table(("what", "count"), rows))
    assert sum(token.type == "td_open" for token in found) == 4
    assert not ACTIVE & {token.type for token in found}
    assert "2,000,000" in table(("what", "count"), rows)


def test_code_holds_backticks():
    assert [token.content for token in tokens(code("a `b` ``c``")) if token.type == "code_inline"] == ["a `b` ``c``"]


def test_examples_of_hostile_rows_are_fences_and_our_own_words(ledger):
    at = Position(1, Stage.VERIFY)
    answer, task = ledger.read(Answer, at)[0], ledger.read(Task, Position(1, Stage.VALIDATE))[0]
    rollout = ledger.read(Rollout, Position(1, Stage.SOLVE))[0]
    for text in HOSTILE:
        hostile = replace(task, program=text, inputs=(text,), outputs=(text,), reason=text)
        pages = task_example(hostile), answer_example(replace(answer, answer=text, reason=text), hostile)
        for page in (*pages, rollout_example(replace(rollout, completion=text))):
            assert not ACTIVE & kinds(page), page


def test_a_stage_without_rows_says_none(ledger):
    for made in (rollout_table([]), verdict_table([]), reward_table([])):
        assert made == "(none)"
    assert one_per_kind([], str) == []


def test_examples_show_different_things():
    assert one_per_kind(["a1", "a2", "a3", "b1", "a4"], lambda row: row[0]) == ["a1", "b1", "a2"]
    assert one_per_kind(["a", "b", "c", "d"], str) == ["a", "b", "c"]


@pytest.mark.parametrize("stage", list(Stage))
def test_each_stage_has_its_page(ledger, stage):
    page = stage_page(ledger, Position(1, stage))
    assert f"first\\_light · iteration 1 · {stage}" in page
    assert "azr sql" in page
    assert "table_open" in kinds(page)
    assert not {"html_block", "html_inline", "image", "link_open"} & kinds(page)
    examples = sum(token.type == "fence" for token in tokens(page))
    assert examples >= 3 if stage is not Stage.UPDATE else examples == 0


@pytest.mark.parametrize("stage", list(Stage))
def test_the_sql_of_a_page_answers(ledger, stage):
    page = stage_page(ledger, Position(1, stage))
    (sql,) = re.findall(r"azr sql '([^']*)'", page)
    rows = query(FIXTURE.parent, sql, "first_light").rows
    table_of = {Stage.PROPOSE: Rollout, Stage.SOLVE: Rollout, Stage.VALIDATE: Task, Stage.VERIFY: Answer}
    if stage in table_of:
        assert len(rows) == len(ledger.read(table_of[stage], Position(1, stage)))
    assert rows


def test_a_point_is_what_the_named_sql_says(ledger):
    curves = "SELECT role, mode, mean FROM reward_curves WHERE iteration = 2"
    found = point(ledger, 2)
    means = {"proposer": found.proposer, "solver": found.solver}
    for role, mode, mean in query(FIXTURE.parent, curves, "first_light").rows:
        assert means[role][mode] == pytest.approx(mean)
    tasks = "SELECT mode, avg((verdict = 'valid')::INT) FROM tasks WHERE iteration = 2 GROUP BY ALL"
    answers = "SELECT mode, avg((verdict = 'correct')::INT) FROM answers WHERE iteration = 2 GROUP BY ALL"
    assert found.valid == pytest.approx(dict(query(FIXTURE.parent, tasks, "first_light").rows))
    assert found.solved == pytest.approx(dict(query(FIXTURE.parent, answers, "first_light").rows))
    (spent,) = query(FIXTURE.parent, "SELECT seconds FROM iterations WHERE iteration = 2", "first_light").rows[0]
    assert found.seconds == pytest.approx(spent)


def test_each_sealed_iteration_is_read_once_and_points_are_thinned(ledger, monkeypatch):
    one, read = point(ledger, 1), []

    def counted(of, iteration):
        read.append(iteration)
        return replace(one, iteration=iteration)

    monkeypatch.setattr("flows.curves.point", counted)
    curves = Curves(ledger)
    for last in range(1, 1001):
        points = curves.until(last)
        assert points[-1].iteration == last
        assert len(points) <= 101
    assert sorted(set(read)) == list(range(1, 1001))
    assert len(read) == 1000
    read.clear()
    assert len(Curves(ledger).until(5000)) <= 101
    assert len(read) <= 101  # a run that is continued reads no more of its past than it shows


def test_the_picture_holds_itself_and_is_small(ledger):
    points = [point(ledger, number) for number in (1, 2)]
    drawn = ElementTree.fromstring(svg(points))  # noqa: S314 - our own text
    names = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert names.count("polyline") == 4 * len(points[0].valid) + 1
    assert not {"script", "image", "foreignObject", "a", "style"} & set(names)
    image = picture(points)
    data = re.fullmatch(r"!\[[^\]]*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", image)
    assert base64.b64decode(data[1]).decode() == svg(points)
    many = [replace(points[0], iteration=number) for number in range(1, 102)]
    assert len(picture(many)) < 25_000
    ElementTree.fromstring(svg([]))  # noqa: S314


def test_an_iteration_and_a_training_have_their_pages(ledger):
    points = Curves(ledger).until(2)
    page = iteration_page(ledger, 2, points)
    for stage in Stage:
        assert f"| {stage} |" in page
    assert [token.type for token in tokens(page)].count("table_open") == 2
    assert "after iteration 2" in training_page(ledger, points)
    assert "azr status" in training_page(ledger, points)


def test_the_link_to_mlflow_is_that_of_its_server_or_of_the_ui_that_is_served(tmp_path):
    class Beside:
        directory = tmp_path

    assert mlflow_page(Beside, "http://127.0.0.1:5000") is None
    link = {"tracking_uri": "sqlite:////x/mlflow.db", "experiment_id": "1", "run_id": "abc"}
    (tmp_path / MLFLOW_LINK).write_text(json.dumps(link))
    assert mlflow_page(Beside, None) is None
    assert mlflow_page(Beside, "http://127.0.0.1:5000/") == "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    (tmp_path / MLFLOW_LINK).write_text(json.dumps({**link, "tracking_uri": "https://mlflow.example"}))
    assert mlflow_page(Beside, None) == "https://mlflow.example/#/experiments/1/runs/abc"
    (tmp_path / MLFLOW_LINK).write_text(json.dumps({"tracking_uri": "https://mlflow.example", "run_id": "abc"}))
    assert mlflow_page(Beside, None) is None  # of an earlier version


def test_keys_are_prefects_and_runs_are_told_apart():
    runs = ["nano", "Nano", "na-no", "na_no", "na.no", "na--no", "x" * 100]
    keys = [slug(run, "solve") for run in runs]
    assert keys[0] == "nano-solve"
    assert len(set(keys)) == len(runs)
    assert all(re.fullmatch("[a-z0-9-]{1,255}", key) for key in keys)


# ---- a real server --------------------------------------------------------------------------------------------------


def artifacts(api, **wanted):
    said, kind = json.dumps(wanted).encode(), {"content-type": "application/json"}
    request = urllib.request.Request(f"{api}/artifacts/filter", said, kind)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_training_leaves_its_pages_and_its_log(place):
    done = place.person.azr(*tiny(place.root, "shown"))
    assert done.code == 0, done.err
    assert done.err == ""
    found = [one for one in artifacts(place.apis[0], limit=200) if one["key"].startswith("shown-")]
    steps = {seal.position for seal in Ledger.open(place.root, "shown").sealed()}
    for stage in Stage:
        pages = [one for one in found if one["key"] == f"shown-{stage}"]
        assert len(pages) == sum(at.stage is stage for at in steps)
        assert all(one["task_run_id"] and one["flow_run_id"] for one in pages)
    curves = [one for one in found if one["key"] == "shown-curves"]
    assert len(curves) == 2
    assert len({one["flow_run_id"] for one in curves}) == 2
    assert all("data:image/svg+xml;base64," in one["data"] for one in curves)
    (training,) = [one for one in found if one["key"] == "shown-training"]
    assert "after iteration 2" in training["data"]
    assert training["flow_run_id"] not in {one["flow_run_id"] for one in curves}
    log = (place.root / "shown" / "azr.log").read_text()
    assert log.count("shown · iteration 2 · solve: ") == 1
    again = place.person.azr("train", "--root", place.root, "--run", "shown", "--iterations", "3")
    assert again.code == 0, again.err
    (page, *others) = [one for one in artifacts(place.apis[0], limit=200) if one["key"] == "shown-training"]
    assert len(others) == 1  # another flow run has a page of its own
    assert "after iteration 3" in page["data"] or "after iteration 3" in others[0]["data"]


@pytest.mark.server
@pytest.mark.timeout(600)
def test_no_stage_waits_for_a_server_that_was_killed(tmp_path):
    """The server dies as an iteration begins: its five stages are sealed all the same."""
    root, person = tmp_path / "root", Person(tmp_path / "person")
    process = person.start(*tiny(root, "alone"))
    try:
        assert await_stage(process, root, "alone", Position(1, Stage.PROPOSE)), process.communicate()
        known = json.loads((root / ".prefect" / "server.json").read_text())
        os.kill(known["pid"], signal.SIGKILL)
        assert until(lambda: Position(1, Stage.UPDATE) in sealed(root, "alone"), 120)
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{known['api']}/health", timeout=2)  # noqa: S310 - loopback
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
