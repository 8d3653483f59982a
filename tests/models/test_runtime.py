import pytest
import torch
from transformers.utils import logging as transformers_logging

from models import runtime
from models.config import DeviceKind
from storage.errors import EngineError


def test_host_facts_name_what_bit_equality_depends_on():
    facts = runtime.host_facts()
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["device"] == "cpu"
    assert facts.keys() >= {"transformers", "tokenizers", "cpu", "cpu_capability"}
    assert all(isinstance(value, str) and value for value in facts.values())


def test_configure_sets_threads_determinism_and_quiet():
    runtime.configure(threads=1)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert transformers_logging.get_verbosity() == transformers_logging.logging.ERROR
    runtime.configure()
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    assert runtime.resolve_device(DeviceKind.AUTO) == torch.device("cpu")
    assert runtime.resolve_device(DeviceKind.CPU) == torch.device("cpu")
    with pytest.raises(EngineError, match=r"asks for a CUDA device.*engine\.device=cpu"):
        runtime.resolve_device(DeviceKind.CUDA)
