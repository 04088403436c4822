"""Files of results in ``results/``, whose names state the device, the number of threads and the version of PyTorch."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from centermask_solo.utils.files import atomic_write

RESULTS = Path(__file__).parent / "results"


def device_name(device: str) -> str:
    """Return the name of the GPU, or that of the CPU and the number of threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    num_threads = torch.get_num_threads()
    name = models[0] if models else platform.processor()
    return f"{name}, {num_threads} thread{'s' if num_threads > 1 else ''}"


def results_path(script: str, device: str = "cpu") -> Path:
    """Return the file of a benchmark's results on a device, with as many threads as PyTorch has now."""
    slug = re.sub(r"[^a-z0-9.]+", "_", f"{device_name(device)}-torch_{torch.__version__}".lower()).strip("_")
    return RESULTS / f"{script}-{slug}.json"


def write_report(script: str, report: dict[str, Any], device: str = "cpu") -> None:
    """Write a report of any form to :func:`results_path`."""
    path = results_path(script, device)
    with atomic_write(path) as file:
        file.write(json.dumps(report, indent=2) + "\n")
    print(f"wrote {path}")


def write_results(
    script: str, cases: Any, device: str = "cpu", *, merge_by: Sequence[str] = (), **about: object
) -> None:
    """Write measurements, and what they were measured with, to :func:`results_path`.

    Args:
        script: Name of the benchmark.
        cases: Its measurements.
        device: Such as "cpu" or "cuda".
        merge_by: Keys of the cases that tell them apart: those of the file with other values of these stay in it. By
            default none do.
        **about: What else holds for all cases.
    """
    if merge_by:
        path = results_path(script, device)
        earlier = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else []
        cases = json.loads(json.dumps(cases))  # whose tuples are lists, as in the file
        cases = list({json.dumps([x[key] for key in merge_by]): x for x in [*earlier, *cases]}.values())
    write_report(script, {"device": device_name(device), "torch": torch.__version__, **about, "cases": cases}, device)
