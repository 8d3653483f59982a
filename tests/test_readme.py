"""The pages keep their word: commands, SQL and generated tables in the docs are those of the code."""

import re
from pathlib import Path

from storage import describe
from storage.database import query
from storage.ledger import Ledger
from storage.seals import RunFacts

HERE = Path(__file__).parent.parent


def commands(page: str) -> list[str]:
    """The one-line commands of a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (HERE / page).read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_ci_ends_with_the_second_command_of_the_readme():
    assert (HERE / ".ci/run").read_text().strip().splitlines()[-1] == commands("README.md")[1]


def test_ledger_page_is_made_from_the_definitions():
    assert (HERE / "docs/ledger.md").read_text() == describe.page()


def queries(page: str) -> list[str]:
    """The SQL blocks of a page."""
    return re.findall(r"```sql\n(.*?)```", (HERE / page).read_text(), flags=re.DOTALL)


def test_every_query_in_the_docs_runs(tmp_path):
    facts = RunFacts(run="empty", seed=1, config={}, config_hash="0", code_version="0", python="3.11")
    Ledger.create(tmp_path, facts).close()
    paths = {HERE / "README.md", *HERE.glob("docs/**/*.md")} - {HERE / "docs/sql.md"}  # which has a test of its own
    pages = [path.relative_to(HERE) for path in sorted(paths)]
    asked = [sql for page in pages for sql in queries(str(page))]
    assert len(asked) >= 1
    for sql in asked:
        assert query(tmp_path, sql).rows == ()
