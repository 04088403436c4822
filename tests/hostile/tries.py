"""What a try is, and the tries of every command with every kind of file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.hostile import world as commands
from tests.hostile.files import ANY, TEXT, Hostile
from tests.hostile.guard import attempt
from tests.hostile.results import PROPERTY
from tests.hostile.world import World, files_in

CLEAR, ACCEPTED, EITHER = "clear", "accepted", "either"


class Try(NamedTuple):
    """A command with something hostile.

    Attributes:
        command: Row of the table.
        kind: Column of the table.
        name: Which of that kind.
        run: Runs it.
        expected: CLEAR, ACCEPTED, or EITHER where both are right.
        message: Pattern of the message of a clear end.
        check: Raises AssertionError unless what was accepted gave the right result.
    """

    command: str
    kind: str
    name: str
    run: Callable[[World], Any]
    expected: str = CLEAR
    message: str = ""
    check: Callable[[World], None] = lambda w: None

    def __str__(self) -> str:
        return re.sub(r"[^\w.%=-]+", "_", f"{self.command}-{self.kind}-{self.name}", flags=re.ASCII)


def mark_slow(tries: list[Try]) -> list[Any]:
    """Return parameters of a test: a third of the tries, spread evenly, and the others marked as slow."""
    return [pytest.param(x, id=str(x), marks=[pytest.mark.slow] if i % 3 else []) for i, x in enumerate(tries)]


def wrote(name: str) -> Callable[[World], None]:
    """Check that a file was written below ``out``."""

    def check(w: World) -> None:
        assert name in files_in(w.out)

    return check


def assert_handled(x: Try, world: World, record_property: Any) -> None:
    """Fail unless a try ends as it should; record what it ended in."""
    outcome = attempt(lambda: x.run(world))
    kind = outcome.kind
    vague = kind == CLEAR and not re.search(x.message, outcome.text)
    if vague or kind not in {EITHER: (CLEAR, ACCEPTED)}.get(x.expected, (x.expected,)):
        kind = "wrong"
    elif kind == ACCEPTED:
        try:
            x.check(world)
        except AssertionError as error:
            kind, outcome = "wrong", outcome._replace(text=f"the result is wrong: {error}")
    record_property(PROPERTY, (x.command, x.kind, kind, 1))
    assert kind != "wrong", f"{outcome.kind}: {outcome.text[-600:]}"


class Input(NamedTuple):
    """A file that a command reads.

    Attributes:
        command: Row of the table.
        suffix: Suffix of its name.
        valid: Name of a valid file.
        use: Runs the command on a path.
        check: Of the command's result.
        is_text: Whether it is text.
        either: Names of hostile files for which both ends are right, such as half of a YAML file.
        otherwise_invalid: Whether the command refuses the valid file, too, for another reason.
    """

    command: str
    suffix: str
    valid: str
    use: Callable[[World, str], Any]
    check: Callable[[World], None] = lambda w: None
    is_text: bool = False
    either: tuple[str, ...] = ()
    otherwise_invalid: bool = False


JSON, CONFIG, WEIGHTS = ".json", ".yaml", ".pth"
HALF_A_CONFIG = ("2 %", "50 %", "95 %", "Latin-1")
RENAMED = ("line break", "bytes that are not UTF-8")  # which may be refused for weights
_TRAILING = ("link to a terabyte of zeros",)  # after the end of an image, a pickle or a video


def _in_dataset(use: Callable[..., Any]) -> Callable[[World, str], Any]:
    """Run a command on a dataset with an image."""

    def run(w: World, path: str) -> Any:
        folder = w.copied_images("1.png", None)
        Path(folder, "1.png").symlink_to(path)
        return use(w, folder)

    return run


INPUTS = [
    # Annotations
    Input(
        "train", JSON, "data/instances.json", lambda w, p: commands.train(w, *w.data(p)), wrote("model_final.pth"), True
    ),
    Input("eval-only", JSON, "data/instances.json", lambda w, p: commands.evaluate(w, *w.data(p)), is_text=True),
    Input(
        "compare", JSON, "data/instances.json", lambda w, p: commands.compare(w, *w.data(p)), wrote("sheet.png"), True
    ),
    Input("check-dataset", JSON, "data/instances.json", commands.check_dataset, is_text=True),
    Input("data browse", JSON, "data/instances.json", commands.browse, wrote("page.html"), True),
    Input("data convert", JSON, "data/instances.json", commands.convert_data, wrote("labels.txt"), True),
    Input("data split", JSON, "data/instances.json", commands.split, wrote("b.json"), True),
    Input("data merge", JSON, "data/instances.json", commands.merge, wrote("all.json"), True),
    Input("data subset", JSON, "data/instances.json", commands.part, wrote("part.json"), True),
    *(
        Input(command, JSON, "data/instances.json", use, wrote("numbers.json"), True)
        for command, use in (
            ("evaluate", lambda w, p: commands.of_results(w, "evaluate", "", p)),
            ("analyze", lambda w, p: commands.of_results(w, "analyze", "", p)),
        )
    ),
    # Results
    *(
        Input(command, JSON, "results.json", use, wrote("numbers.json"), True)
        for command, use in (
            ("evaluate", lambda w, p: commands.of_results(w, "evaluate", p)),
            ("analyze", lambda w, p: commands.of_results(w, "analyze", p)),
        )
    ),
    Input("prepare_subset", JSON, "data/instances.json", commands.subset, wrote("subset.json"), True),
    Input("prepare_panoptic_fpn", JSON, "panoptic.json", commands.panoptic, wrote("a.png"), True),
    Input("Trainer", JSON, "data/instances.json", lambda w, p: commands.use_trainer(w, *w.data(p)), is_text=True),
    # Class names
    Input("weights convert", JSON, "classes.json", lambda w, p: commands.convert(w, "", "--classes", p), is_text=True),
    Input(
        *("weights convert", ".txt", "classes.txt", lambda w, p: commands.convert(w, "", "--classes", p)),
        is_text=True,
        either=(*HALF_A_CONFIG, "code"),
    ),
    # Configs
    *(
        Input(
            *(command, CONFIG, "config.yaml", use),
            is_text=True,
            either=HALF_A_CONFIG,
            otherwise_invalid=command == "prepare_proposals",  # which needs an RPN
        )
        for command, use in (
            ("train", lambda w, p: commands.train(w, config=p)),
            ("eval-only", lambda w, p: commands.evaluate(w, config=p)),
            ("predict", lambda w, p: commands.predict(w, config=p)),
            ("compare", lambda w, p: commands.compare(w, config=p)),
            ("config show", commands.show),
            ("config convert", commands.convert_config),
            ("weights convert", lambda w, p: commands.convert(w, "", "--config-file", p)),
            ("load", lambda w, p: commands.use_load(w, w.weights, config_file=p)),
            ("prepare_proposals", lambda w, p: commands.proposals(w, "", "", "--rpn", p, w.weights)),
        )
    ),
    # Weights
    *(
        Input(
            *(command, suffix, "weights.pth" if suffix == ".whl" else f"weights{suffix}", use),
            otherwise_invalid=suffix == ".whl",
        )
        for command, suffix, use in (
            ("train", WEIGHTS, lambda w, p: commands.train(w, "MODEL.WEIGHTS", p)),
            ("eval-only", WEIGHTS, lambda w, p: commands.evaluate(w, "MODEL.WEIGHTS", p)),
            ("resume", WEIGHTS, commands.resume),
            ("predict", WEIGHTS, lambda w, p: commands.predict(w, weights=p)),
            ("compare", WEIGHTS, lambda w, p: commands.compare(w, weights=p)),
            ("weights inspect", WEIGHTS, commands.inspect),
            ("weights inspect", ".pkl", commands.inspect),
            ("weights inspect", ".safetensors", commands.inspect),
            ("weights convert", WEIGHTS, commands.convert),
            ("load", WEIGHTS, commands.use_load),
            ("Predictor", WEIGHTS, lambda w, p: commands.use_predictor(w, None, p)),
            ("prepare_mobilenetv2", ".whl", commands.mobilenet),
        )
    ),
    # Images
    Input("predict", ".png", "data/1.png", lambda w, p: commands.predict(w, inputs=p), wrote("predictions.json")),
    Input("predict video", ".mp4", "clip.mp4", lambda w, p: commands.predict(w, "--save-video", inputs=p)),
    Input("Predictor", ".png", "data/1.png", commands.use_predictor),
    Input("train", ".png", "data/1.png", _in_dataset(lambda w, p: commands.train(w, *w.data("", p, True)))),
    Input("eval-only", ".png", "data/1.png", _in_dataset(lambda w, p: commands.evaluate(w, *w.data("", p, True)))),
    Input(
        "check-dataset",
        ".png",
        "data/1.png",
        _in_dataset(lambda w, p: commands.check_dataset(w, "", p, "--allow-outside-paths")),
    ),
    Input("compare", ".png", "data/1.png", _in_dataset(lambda w, p: commands.compare(w, *w.data("", p, True)))),
    Input("prepare_panoptic_fpn", ".png", "panoptic/a.png", lambda w, p: _panoptic_image(w, p), either=("95 %",)),
]


def _panoptic_image(w: World, path: str) -> None:
    folder = w.here / "panoptic"
    folder.mkdir()
    (folder / "a.png").symlink_to(path)
    commands.panoptic(w, "", str(folder))


def _try_file(given: Input, hostile: Hostile) -> Try:
    def run(w: World) -> Any:
        folder = w.here / "given"
        folder.mkdir()
        return given.use(w, hostile.make(folder, given.suffix, w.bytes_of(given.valid)))

    expected = ACCEPTED if hostile.works else CLEAR
    if hostile.name in given.either or (given.suffix in (".png", ".pkl", ".mp4") and hostile.name in _TRAILING):
        expected = EITHER
    if (given.otherwise_invalid and hostile.works) or (given.valid.startswith("weights") and hostile.name in RENAMED):
        expected = EITHER
    name = f"{given.suffix[1:]} {hostile.name}"
    culprit = r"culprit|1\.png|a\.png|names? given" if expected == CLEAR else ""
    return Try(given.command, hostile.kind, name, run, expected, culprit, given.check)


FILE_TRIES = [_try_file(x, hostile) for x in INPUTS for hostile in (*ANY, *(TEXT if x.is_text else ()))]
