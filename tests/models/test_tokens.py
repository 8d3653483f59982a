import json
import shutil

import pytest
from tokenizers.processors import TemplateProcessing

from models.tokens import load_tokenizer
from storage.errors import ConfigError, EngineError


def test_text_comes_back_with_its_markers(policy):
    tokenizer = load_tokenizer(policy.directory)
    ids = tokenizer.encode("<|answer|>f(1,  2)\n  é<|program|>")
    assert len(ids) == 15
    assert tokenizer.decode(ids) == "<|answer|>f(1,  2)\n  é<|program|>"
    assert tokenizer.decode([*ids, 0]) == tokenizer.decode(ids)
    assert tokenizer.decode([0, *ids]).startswith("<|end|>")
    assert tokenizer.decode([]) == ""
    assert tokenizer.ends == {0}
    assert tokenizer.size == 261


def test_a_begin_token_is_added_only_where_the_tokenizer_does(make_tokenizer, tmp_path):
    plain, begun = make_tokenizer(), make_tokenizer()
    for one in (plain, begun):
        one.add_special_tokens({"bos_token": "<|unk|>"})
    begun.backend_tokenizer.post_processor = TemplateProcessing(single="<|unk|> $A", special_tokens=[("<|unk|>", 2)])
    plain.save_pretrained(tmp_path / "plain")
    begun.save_pretrained(tmp_path / "begun")
    assert load_tokenizer(tmp_path / "plain").encode("<|answer|>") == (3,)
    assert load_tokenizer(tmp_path / "begun").encode("<|answer|>") == (2, 3)
    assert load_tokenizer(tmp_path / "begun").encode("<|unk|><|answer|>") == (2, 3)


def test_markers_must_be_single_tokens(policy):
    tokenizer = load_tokenizer(policy.directory)
    tokenizer.require_single_tokens(["<|answer|>", "<|program|>"])
    with pytest.raises(ConfigError, match=r"no own token for 2 of the templates' markers: <\|think\|>, <\|input\|>"):
        tokenizer.require_single_tokens(["<|answer|>", "<|think|>", "<|input|>"])


def test_a_tokenizer_without_end_token_is_refused(make_tokenizer, tmp_path):
    make_tokenizer(end=None).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no end token"):
        load_tokenizer(tmp_path)


def test_generation_config_adds_end_tokens(policy, tmp_path):
    directory = shutil.copytree(policy.directory, tmp_path / "model")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 4]}))
    tokenizer = load_tokenizer(directory)
    assert tokenizer.ends == {0, 4}
    assert tokenizer.decode([10, 4]) == tokenizer.decode([10])
    (directory / "generation_config.json").write_text("{")
    with pytest.raises(EngineError, match=r"generation_config\.json could not be read"):
        load_tokenizer(directory)


def test_a_directory_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(EngineError, match="could not be loaded"):
        load_tokenizer(tmp_path / "nowhere")
