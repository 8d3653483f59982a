"""How torch and transformers run in this process: threads, determinism, device, quiet; and the facts of the host."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers.utils import logging as transformers_logging

from models.config import DeviceKind
from storage.errors import EngineError

_CPUINFO = Path("/proc/cpuinfo")


def configure(*, threads: int = 0, device: torch.device | None = None) -> None:
    """Set this process up for reproducible work: thread count (0 keeps torch's), deterministic kernels, no chatter.

    On the CPU an operation without a deterministic kernel raises RuntimeError; on other devices it only warns.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the library warns about every later fork otherwise
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is reproducible only with it
    if threads > 0:
        torch.set_num_threads(threads)
    on_cpu = device is None or device.type == "cpu"
    torch.use_deterministic_algorithms(True, warn_only=not on_cpu)
    quiet()


def quiet() -> None:
    """Stop transformers' progress bars and everything below errors."""
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it untyped


def resolve_device(kind: DeviceKind) -> torch.device:
    """The device that the config asks for; raises EngineError for a CUDA device that is not there."""
    there = torch.cuda.is_available()
    if kind is DeviceKind.CUDA and not there:
        raise EngineError(
            f"The config asks for a CUDA device, and torch {torch.__version__} finds none. Nothing was written. "
            "Run: azr train --set engine.device=cpu, or install a torch build for your GPU."
        )
    return torch.device("cuda" if there and kind is not DeviceKind.CPU else "cpu")


def host_facts(device: torch.device | None = None) -> dict[str, str]:
    """What bit-equality depends on: libraries, CPU (and GPU) model, thread count."""
    facts = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "device": str(device or torch.device("cpu")),
    }
    if device is not None and device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def cpu_model() -> str:
    """The CPU's name as the kernel or the platform gives it."""
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
