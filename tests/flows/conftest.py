"""One Prefect server and one small trained run for all tests here; commands as processes, or in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the files beside this one are no package

from azr_process import Done, Person, tiny

STRANGERS = {"notes.txt": "mine\n", "pictures/cat 1.jpg": "a cat\n", "empty.d/run.json.bak": "{}"}


class Place(NamedTuple):
    """A root whose private server is kept alive, and the person who uses it."""

    root: Path
    person: Person
    apis: list[str]  # what the two users that keep it alive were told


class Trained(NamedTuple):
    """A run that was trained once, uninterrupted; to be read only."""

    root: Path
    run: str
    person: Person
    done: Done


@pytest.fixture
def azr(tmp_path, monkeypatch, capsys) -> Callable[..., Done]:
    """Run a command in this process, in an empty directory and an empty home."""
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> Done:
        from flows.cli import main

        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return Done(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("place")
    root = base / "runs of mine"
    for name, text in STRANGERS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    with Person(base / "holder").server(root, root) as apis:
        yield Place(root, Person(base / "person"), apis)


@pytest.fixture(scope="session")
def trained(place) -> Trained:
    """The job of the README, only smaller."""
    done = place.person.azr(*tiny(place.root, "base"))
    assert done.code == 0, done.err
    return Trained(place.root, "base", place.person, done)


@pytest.fixture
def copied(trained, place, tmp_path) -> Trained:
    """A copy of the trained run below another root, to be changed; it is trained on with the server of `place`."""
    root = tmp_path / "copied"
    shutil.copytree(trained.root / trained.run, root / "twin")
    return Trained(root, "twin", Person(tmp_path / "person", PREFECT_API_URL=place.apis[0]), trained.done)
