"""The pages keep their word: commands, SQL and generated tables in the docs are those of the code."""

import re
from pathlib import Path

from storage import describe

HERE = Path(__file__).parent.parent


def commands(page: str) -> list[str]:
    """The one-line commands of a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (HERE / page).read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_ci_ends_with_the_second_command_of_the_readme():
    assert (HERE / ".ci/run").read_text().strip().splitlines()[-1] == commands("README.md")[1]


def test_ledger_page_is_made_from_the_definitions():
    assert (HERE / "docs/ledger.md").read_text() == describe.page()
