"""Train and evaluate all systems on the same generated images with the same budget, and write docs/comparison.md.

    python -m benchmarks.compare_systems --iterations 1700                           # all
    python -m benchmarks.compare_systems --iterations 1700 --systems solov2 yolact   # some, besides finished ones
    python -m benchmarks.compare_systems --table-only                                # write the document again

Each step runs in its own process (system_run.py) and is recorded in FOLDER/SYSTEM.json immediately, so that an
interrupted command resumes where it stopped. --opts KEY VALUE ... changes the configs of all systems. The processes
inherit the niceness and OMP_NUM_THREADS of this one. This file imports nothing large, because the peak memory of a
process may include that of its parent.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from centermask_solo.utils.errors import ConfigError, UserError, reported_errors
from centermask_solo.utils.files import atomic_write

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "shapes"
TITLES = {  # where it is not the name of the meta-architecture, and the order of the table
    "solov2": "SOLOv2",
    "centermask": "CenterMask-Lite",
    "yolact": "YOLACT",
    "mask_rcnn": "Mask R-CNN, RoIAlign",
    "mask_rcnn_roipool": "Mask R-CNN, RoIPool",
    "faster_rcnn": "Faster R-CNN",
    "fast_rcnn": "Fast R-CNN",
    "rcnn": "R-CNN",
    "retinanet": "RetinaNet",
}


def _find_systems() -> dict[str, str]:
    """Return the name of each system, as in centermask_solo.demo.demo_configs, and its title."""
    found = {path.name.removesuffix("_shapes.yaml"): path for path in sorted(CONFIGS.glob("*_shapes.yaml"))}
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items() if name not in TITLES}
    titles = {name: re.findall(r'META_ARCHITECTURE: "(\w+)"', text) for name, text in texts.items()}
    return TITLES | {name: title[0] if title else name for name, title in titles.items()}


SYSTEMS = _find_systems()
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "comparison.md"
GENERATED = "<!-- generated"  # a marker
BEGIN, END = f"{GENERATED} by benchmarks/compare_systems.py: begin -->", f"{GENERATED}: end -->"
NEW_DOCUMENT = f"# A comparison of all systems\n\n{BEGIN}\n{END}\n\n## Findings\n"
COLUMNS = (
    *("system", "mask AP", "small / medium / large", "box AP", "small / medium / large", "input, pixels", "parameters"),
    *("training", "prediction per image", "memory, training", "memory, prediction"),
)
Record = dict[str, Any]  # of a system: iterations, opts, and the measurements of each step


def steps_of(system: str) -> list[tuple[str, str]]:
    """Return the (step, system) pairs behind a row of the table; some need proposals first, from another system."""
    proposals = {
        "fast_rcnn": [("train", "faster_rcnn"), ("propose", "faster_rcnn")],
        "rcnn": [("search", "rcnn")],
    }
    before = proposals.get(system, [])
    return [*before, ("train", system), ("predict", system)]


def read_records(output: Path) -> dict[str, Record]:
    """Return the record of each system.

    Raises:
        ConfigError: the systems had different budgets.
    """
    paths = {name: output / f"{name}.json" for name in SYSTEMS}
    records = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    budgets = {(x["iterations"], " ".join(x["opts"])) for x in records.values()}
    if len(budgets) > 1:
        raise ConfigError(
            f"the systems in {output} had different budgets, {sorted(budgets)}: use one --output per budget"
        )
    return records


def run(systems: Sequence[str], iterations: int, output: Path, opts: Sequence[str]) -> None:
    """Run the steps that are not recorded yet.

    Raises:
        ConfigError: the folder holds results of another budget.
        UserError: a step failed.
    """
    records = read_records(output)
    for record in records.values():
        if (record["iterations"], record["opts"]) != (iterations, list(opts)):
            had = " ".join(["--iterations", str(record["iterations"]), *record["opts"]])
            raise ConfigError(f"{output} holds results of another budget, {had}: choose another --output")
    steps = list(dict.fromkeys(step for system in systems for step in steps_of(system)))
    for i, (stage, system) in enumerate(steps, 1):
        if stage in read_records(output).get(system, {}):
            print(f"{i}/{len(steps)} {stage} {system}: done before", flush=True)
            continue
        print(f"{i}/{len(steps)} ", end="")
        run_step("system_run", stage, system, iterations, output, opts)


def run_step(
    module: str,
    stage: str,
    system: str,
    iterations: int,
    output: Path,
    opts: Sequence[str],
    options: Sequence[str] = (),
) -> None:
    """Run a step in a process of its own, by a module of this folder that takes what system_run.py takes.

    Raises:
        UserError: it failed.
    """
    log = output / system / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{stage} {system}: log in {log} ...", flush=True)
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", stage, system]
    command += ["--iterations", str(iterations), "--output", str(output), *options, "--opts", *opts]
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise UserError(f"{stage} {system} failed: {log.read_text().strip().splitlines()[-1]} (see {log})")
    print(f"{stage} {system}: {(time.perf_counter() - start) / 60:.1f} min", flush=True)


def render(records: Mapping[str, Record]) -> str:
    """Return the generated part of the document.

    Raises:
        ConfigError: no system is finished.
    """
    finished = {name: x for name, x in records.items() if {"train", "predict"} <= set(x)}
    if not finished:
        raise ConfigError("no system is trained and evaluated yet: run without --table-only")
    first = next(iter(finished.values()))
    lines = [*_account(finished, first), "", "| " + " | ".join(COLUMNS) + " |"]
    lines.append("| --- |" + " ---: |" * (len(COLUMNS) - 1))
    lines += ["| " + " | ".join(_cells(name, record)) + " |" for name, record in finished.items()]
    return "\n".join([*lines, "", *_notes(finished, records), ""])


def _account(finished: Mapping[str, Record], first: Record) -> list[str]:
    """Return how the table was made."""
    command = f"python -m benchmarks.compare_systems --iterations {first['iterations']}"
    if first["opts"]:
        command += " --opts " + " ".join(map(quoted, first["opts"]))
    measured = [x[stage] for x in finished.values() for stage in ("train", "predict")]
    machines = dict.fromkeys(
        "{device} ({cores} cores in total); torch {torch}, torchvision {torchvision}, Detectron2 {detectron2}".format(
            **x["machine"]
        )
        for x in measured
    )
    days = sorted({x["date"] for x in measured})
    return [
        "```",
        command,
        "```",
        "",
        f"* Budget: {first['iterations']} iterations of 4 images, or as many images in smaller batches, the same "
        f"{first['train']['images']} in the same order, with the configs `configs/shapes/*_shapes.yaml`; evaluated on "
        f"{first['predict']['images']} others.",
        f"* Hardware: {'; and '.join(machines)}.",
        f"* Measured on {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}.",
    ]


def _notes(finished: Mapping[str, Record], records: Mapping[str, Record]) -> list[str]:
    """Return the notes below the table."""
    libraries = max(x["predict"]["libraries_mb"] for x in finished.values()) / 1000
    notes = [
        "* AP is COCO's, in percent; small objects are below 32² pixels of the image file, medium ones below 96², and "
        "large ones the rest. – marks systems without masks.",
        "* Training is the wall time of all iterations, including the loading of images; prediction is the median over "
        "single images, without loading. In parentheses: the CPU time of the process, which is meaningful on a busy "
        "machine, too.",
        "* Memory is the peak of the process (on a GPU: of PyTorch's tensors); for prediction it includes the results "
        f"of all images. {libraries:.2f} GB of it are the libraries, loaded before the work begins.",
    ]
    scratch = [SYSTEMS[name] for name, x in finished.items() if x["train"]["from_scratch"]]
    start = f"from random weights: {', '.join(scratch)}" if scratch else "from MobileNetV2's ImageNet weights"
    notes.append(f"* Every system has the same backbone, trained {start}.")
    if "rcnn" in finished:
        seconds = records["rcnn"]["search"].get("cpu_seconds_per_image")
        took = f", {1000 * seconds:.0f} ms of CPU time per image" if seconds else ""
        notes.append(
            f"* R-CNN uses proposals by selective search, which its times exclude{took}; they include the fitting of "
            "its SVMs and of its box regression."
        )
    if "fast_rcnn" in finished:
        seconds = records["faster_rcnn"]["propose"]["seconds_per_image"]
        notes.append(
            "* Fast R-CNN uses proposals by the RPN of a Faster R-CNN trained the same way. Its times exclude that "
            f"training and the proposals, {1000 * seconds:.0f} ms per image including loading."
        )
    return notes


def quoted(word: str) -> str:
    """Return a word of a command for a shell, in double quotes where it has a list."""
    return f'"{word}"' if set(word) & set(" '()[]") else word


def _cells(name: str, record: Record) -> list[str]:
    training, prediction = record["train"], record["predict"]
    short, long = prediction["input_sides"]
    cells = [SYSTEMS[name]]
    for task in ("segm", "bbox"):
        metrics = prediction["results"].get(task)
        sizes = ("APs", "APm", "APl")
        cells += [_ap(metrics, "AP"), " / ".join(_ap(metrics, size) for size in sizes) if metrics else "–"]
    return [
        *cells,
        f"{short} × {long}" if short == long else f"{short} to {long}",
        f"{training['parameters'] / 1e6:.2f} M",
        f"{training['seconds'] / 60:.1f} min ({training['cpu_seconds'] / 60:.1f})",
        f"{1000 * prediction['seconds_per_image']:.0f} ms ({1000 * prediction['cpu_seconds_per_image']:.0f})",
        f"{training['peak_mb'] / 1000:.2f} GB",
        f"{prediction['peak_mb'] / 1000:.2f} GB",
    ]


def _ap(metrics: Mapping[str, float | None] | None, name: str) -> str:
    value = metrics[name] if metrics else None
    return "–" if value is None else f"{value:.1f}"


def write_document(path: Path, generated: str, begin: str = BEGIN, new: str = NEW_DOCUMENT) -> None:
    """Replace the generated part of the document between its markers, and keep the rest, and other generated parts.

    Raises:
        UserError: the file exists, but lacks the markers.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else new
    before, _, rest = text.partition(begin)
    old, end, after = rest.partition(END)
    if not end or begin in rest or GENERATED in old:
        raise UserError(f"{path} lacks the lines '{begin}' and '{END}' around the table: restore them")
    with atomic_write(path) as file:
        file.write(f"{before}{begin}\n\n{generated}\n{END}{after}")


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, help="training images of every system, divided by 4")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM", help="(all)")
    parser.add_argument(
        "--output", type=Path, default=Path("output/comparison"), help="folder of results (%(default)s)"
    )
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="file to write (docs/comparison.md)")
    parser.add_argument(
        "--table-only", action="store_true", help="only write the document from the results in the folder"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs for all configs; must come last"
    )
    args = parser.parse_args(argv)
    if args.iterations is None and not args.table_only:
        parser.error("--iterations is missing")
    if not args.table_only:
        run(args.systems, args.iterations, args.output, args.opts)
    write_document(args.document, render(read_records(args.output)))
    print(f"wrote {args.document}")


if __name__ == "__main__":
    with reported_errors():
        main()
