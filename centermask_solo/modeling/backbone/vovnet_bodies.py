"""The bodies of VoVNetV2 in numbers, which can be imported without PyTorch."""

from __future__ import annotations

from typing import NamedTuple


class VoVNetBody(NamedTuple):
    """The numbers of a body; four numbers are those of stages 2, 3, 4, 5."""

    stem_channels: tuple[int, int, int]
    conv_channels: tuple[int, int, int, int]  # of the 3x3 layers
    out_channels: tuple[int, int, int, int]
    num_layers: int  # 3x3 layers of a block
    num_blocks: tuple[int, int, int, int]
    depthwise: bool = False


_STEM, _DEPTHWISE_STEM = (64, 64, 128), (64, 64, 64)
_CONV, _OUT = (128, 160, 192, 224), (256, 512, 768, 1024)
_SLIM_CONV, _SLIM_OUT = (64, 80, 96, 112), (112, 256, 384, 512)

BODIES = {
    "V-19-slim-dw-eSE": VoVNetBody(_DEPTHWISE_STEM, _SLIM_CONV, _SLIM_OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-dw-eSE": VoVNetBody(_DEPTHWISE_STEM, _CONV, _OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-slim-eSE": VoVNetBody(_STEM, _SLIM_CONV, _SLIM_OUT, 3, (1, 1, 1, 1)),
    "V-19-eSE": VoVNetBody(_STEM, _CONV, _OUT, 3, (1, 1, 1, 1)),
    "V-39-eSE": VoVNetBody(_STEM, _CONV, _OUT, 5, (1, 1, 2, 2)),
    "V-57-eSE": VoVNetBody(_STEM, _CONV, _OUT, 5, (1, 1, 4, 3)),
    "V-99-eSE": VoVNetBody(_STEM, _CONV, _OUT, 5, (1, 3, 9, 3)),
}
