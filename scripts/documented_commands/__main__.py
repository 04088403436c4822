"""Run every command and program of the documentation, each page in a folder of its own, on real photographs.

    DETECTRON2_DATASETS=... python -m scripts.documented_commands --pages predict.md convert.md
    python -m scripts.documented_commands --list

What a page takes for granted, such as ``model_final.pth``, is made of the first photographs of COCO: makers.py and
models.py. What is shortened or not run, and why, is in rules.yaml. Everything is kept in ``--output``, where
``results.json`` has the last result of every command; the exit code is 1 if one of those that were run failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from centermask_solo.utils.rules import COUNT, argument

from .forks import server
from .pages import DOCUMENTS, pages_of
from .record import record, write_page
from .rules import Plan, Table, plans_of, read_table
from .store import Store
from .world import TIMED_OUT, World


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", default=[""], metavar="NAME", help="names of pages, or their ends (all)")
    parser.add_argument(
        "--show", action="store_true", help="write docs/documented_commands.md, without running anything"
    )
    parser.add_argument("--list", action="store_true", help="print what would be run, and why differently")
    datasets = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument("--photos", type=Path, default=Path(datasets), help="folder that holds coco/ (%(default)s)")
    parser.add_argument("--limit", type=argument(COUNT), default=8, help="photographs of each split (%(default)s)")
    parser.add_argument(
        "--iterations", type=argument(COUNT), default=150, help="of the training of the model (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("output/documented_commands"), help="folder (%(default)s)")
    parser.add_argument("--timeout", type=argument(COUNT), default=900, help="seconds of a command (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folders in which the commands ran")
    parser.add_argument("--record", action="store_true", help="keep the results for docs/documented_commands.md")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    args = parse()
    paths = {x: None for name in args.pages for x in pages_of(name)}
    if not paths:
        sys.exit(f"no page of the documentation ends with {' or '.join(args.pages)}")
    table = read_table()
    if args.show:
        write_page(plans_of(DOCUMENTS, table.rules))
        return
    plans = plans_of(paths, table.rules)
    if args.list:
        for page, found in plans.items():
            print(f"\n{page}", *map(describe, found), sep="\n")
        return
    from .makers import MAKERS  # which needs PyTorch

    output = args.output.resolve()
    store = Store(output / "store", args.photos.resolve(), args.limit, args.iterations, MAKERS)
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "socket"
        failed = sum(run_page(page, found, table, store, socket, args) for page, found in plans.items())
    sys.exit(f"{failed} commands failed: see {output / 'logs'}" if failed else 0)


def describe(plan: Plan) -> str:
    """Return a command as it is run, and why it differs."""
    text = plan.text if plan.text else f"{plan.command.text} (not run)"
    if plan.command.language == "python":
        text = f"Python: {text.splitlines()[-1]}"
    return f"  {text}" + "".join(f"\n      # {why}" for why in plan.why)


def needed_files(files: Mapping[str, str], plans: list[Plan]) -> dict[str, str]:
    """Return the folders, and those of the files that a command names."""
    texts = "\n".join(plan.text for plan in plans)
    return {name: kept for name, kept in files.items() if "." not in name or name in texts}


def run_page(page: str, plans: list[Plan], table: Table, store: Store, socket: Path, args: argparse.Namespace) -> int:
    """Run the commands of a page, print and keep their results; return how many failed."""
    output = args.output.resolve()
    name = page.replace("/", "_")
    world = World(output / "worlds" / name, store, socket)
    world.make(needed_files(table.files["*"] | table.files.get(page, {}), plans))
    print(f"\n{page}", flush=True)
    with server(socket, world.folder, world.environment(0)):
        rows = [run_command(x, i, world, output / "logs" / name, args.timeout) for i, x in enumerate(plans, start=1)]
    if not args.keep:
        shutil.rmtree(world.folder, ignore_errors=True)
    results = output / "results.json"
    earlier = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    results.write_text(json.dumps({**earlier, page: rows}, indent=1, ensure_ascii=False), encoding="utf-8")
    faults = [fault_of(row, args.timeout) for row in rows]
    if args.record:
        record(page, {**plans_of(DOCUMENTS, table.rules), page: plans}, faults)
    return len(list(filter(None, faults)))


def run_command(plan: Plan, number: int, world: World, logs: Path, timeout: float) -> dict[str, Any]:
    """Run a command, unless the table says no; print and return its result."""
    row = {"command": plan.command.text, "why": list(plan.why)}
    if plan.text:
        code, seconds = world.run(plan, number, logs / f"{number}.txt", timeout)
        row |= {"run": plan.text, "code": code, "passed": code == plan.code, "seconds": round(seconds, 1)}
    print("failed" if not row.get("passed", True) else "      ", end="")
    print(f"  {row['seconds']:6.1f} s" if plan.text else "   not run", describe(plan), flush=True)
    return row


def fault_of(row: Mapping[str, Any], timeout: int) -> str:
    """Return how a command failed; "" if it did not."""
    if row.get("passed", True):
        return ""
    return f"not finished after {timeout} s" if row["code"] == TIMED_OUT else f"exit code {row['code']}"


if __name__ == "__main__":
    main()
