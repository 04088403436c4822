"""Measure the peak memory of a function beyond what was allocated before the call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], object], device: str = "cpu") -> int:
    """Return the peak size of the tensors, results and temporaries, that ``function`` allocates on ``device``.

    Every allocation of PyTorch counts, including those within an operator, but not the scratch space of BLAS libraries.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        result = function()
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    del result
    current = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak
