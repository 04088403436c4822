"""Starting one process a GPU, or several on the CPU."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import detectron2.engine
import torch
from torch.multiprocessing import ProcessExitedException

from ..utils.errors import EXIT_CODE


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run ``main(args)`` in ``args.num_gpus`` processes on each machine by Detectron2's launcher.

    Without a usable GPU the processes run on the CPU, speak over gloo and share its cores.

    Args:
        main: a function of the top level of a module.
        args: of Detectron2's ``default_argument_parser``.

    Raises:
        ValueError: this machine has fewer GPUs.
        SystemExit: a process has reported an error of the user's.
    """
    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise ValueError(f"--num-gpus {args.num_gpus}: this machine has {torch.cuda.device_count()} usable GPUs")
    if args.num_gpus < 1:
        raise ValueError(f"--num-gpus {args.num_gpus}: give 1 or more, also where there is no GPU")
    try:
        detectron2.engine.launch(
            partial(_run, main, args.num_gpus),
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ProcessExitedException as error:
        if error.exit_code == EXIT_CODE:
            raise SystemExit(EXIT_CODE) from None
        raise


def _run(main: Callable[[argparse.Namespace], Any], num_processes: int, args: argparse.Namespace) -> None:
    if num_processes > 1 and not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    main(args)
