"""Measure the peak memory of a training step: the part per image of the batch, and the rest.

python -m benchmarks.training_memory configs/YOLACT/yolact_resnet50.yaml --size 550 550 [--amp] [--device cuda]

The images are noise with eight objects each, and the weights are random. Every allocation of PyTorch from the images to
the gradients of all parameters counts, but not the parameters and the optimizer's state.
"""

from __future__ import annotations

import argparse

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from benchmarks.memory import peak_bytes
from benchmarks.results_file import device_name
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.utils.errors import reported_errors

NUM_OBJECTS = 8
GB = 10**9


def build(config_file: str, device: str, *opts: object) -> nn.Module:
    """Return the model of a config, with options changed and random weights, in training mode."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, config_file, list(map(str, opts)))
    cfg.MODEL.DEVICE = device
    torch.manual_seed(0)
    return build_model(cfg).train()


def example(size: tuple[int, int], seed: int) -> dict[str, object]:
    """Return a training input of this (height, width): rectangles of 0.1 to 0.5 of the sides, classes 0 to 7."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.zeros(NUM_OBJECTS, *size, dtype=torch.bool)
    for mask in masks:
        y, x, h, w = (torch.rand(4, generator=rng) * torch.tensor([0.5, 0.5, 0.4, 0.4])).tolist()
        rows, columns = (slice(int(a * n), int((a + b + 0.1) * n)) for a, b, n in ((y, h, size[0]), (x, w, size[1])))
        mask[rows, columns] = True
    bits = BitMasks(masks)
    instances = Instances(size, gt_boxes=bits.get_bounding_boxes(), gt_masks=bits, gt_classes=torch.arange(NUM_OBJECTS))
    return {"image": torch.rand(3, *size, generator=rng) * 255, "instances": instances}


def step_bytes(model: nn.Module, size: tuple[int, int], batch: int, device: str, amp: bool) -> int:
    """Return the peak memory of the losses and gradients of a batch."""
    inputs = [example(size, seed) for seed in range(batch)]
    kind = torch.float16 if device == "cuda" else torch.bfloat16

    def step() -> None:
        with EventStorage(), torch.autocast(device, kind, enabled=amp):
            losses = model(inputs)
        sum(losses.values()).backward()
        model.zero_grad()

    return peak_bytes(step, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config_file")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--amp", action="store_true", help="half precision, as SOLVER.AMP.ENABLED")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    model, size = build(args.config_file, args.device), (args.size[0], args.size[1])
    one, three = (step_bytes(model, size, n, args.device, args.amp) / GB for n in (1, 3))
    each = (three - one) / 2
    print(f"{device_name(args.device)}: {each:.2f} GB per image plus {one - each:.2f} GB")


if __name__ == "__main__":
    with reported_errors():
        main()
