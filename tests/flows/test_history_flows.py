"""What the flows over history leave on a page: text that cannot become markup, not too long, under a fit key."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.config import RunConfig, resolve
from flows.history import settings
from flows.paper import abridged
from flows.serving.deployments import entries, flow_of
from flows.serving.places import MLFLOW, announce, forget, mlflow_ui
from storage.errors import ConfigError


def test_the_middle_of_a_long_text_is_left_out_and_counted():
    text = "begin" + "x" * 1000 + "end"
    short = abridged(text, 100)
    assert short.startswith("begin")
    assert short.endswith("end")
    assert "[908 characters are left out here]" in short
    assert abridged("short", 100) == "short"


def test_every_entry_of_prefect_yaml_is_a_flow_of_its_name():
    names = ("train", "continue", "iteration", "rerun-stage", "replay", "audit", "rescore", "fork", "gc")
    assert {entry.name: flow_of(entry.entrypoint).name for entry in entries()} == {name: name for name in names}


@pytest.mark.parametrize("text", ["", "deployments: {}", "deployments: [{name: train, colour: red}]", "a: [", None])
def test_a_list_of_deployments_that_cannot_be_used_is_named(tmp_path, text):
    file = tmp_path / "prefect.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=r"(?s)prefect\.yaml, which lists what is served.*Nothing was served"):
        entries(file)


def test_an_entry_that_is_no_flow_is_named():
    with pytest.raises(ConfigError, match=r"flows\.history:pick_run, which is no flow"):
        flow_of("flows.history:pick_run")


def test_changes_are_given_on_as_they_were_typed():
    changes = {"name": "a\nb", "update.learning_rate": 1e-05, "bootstrap.wanted": 3, "ledger.durable": False}
    assert resolve(None, settings(changes | {"name": "fork"})).config.bootstrap.wanted == 3
    assert settings(changes)[1:] == ["update.learning_rate=1e-05", "bootstrap.wanted=3", "ledger.durable=false"]


def test_what_a_process_said_holds_while_it_lives(tmp_path):
    (tmp_path / ".prefect").mkdir()
    assert mlflow_ui(tmp_path) is None
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        announce(tmp_path, MLFLOW, {"url": "http://127.0.0.1:5000"}, pid=child.pid)
        assert mlflow_ui(tmp_path) == "http://127.0.0.1:5000"
        child.communicate()
        assert mlflow_ui(tmp_path) is None
    announce(tmp_path, MLFLOW, {"url": "here"})
    forget(tmp_path, MLFLOW)
    assert mlflow_ui(tmp_path) is None


def test_the_form_of_train_begins_with_the_nano_config():
    train = next(entry for entry in entries() if entry.name == "train")
    nano = resolve(Path(__file__).parents[2] / "configs" / "nano.toml").config
    assert RunConfig.model_validate(train.parameters["config"]) == nano
