"""What the heads over grids of cells share: their options and their convolution towers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ...ops.levels import resize_levels
from ..layers import TOWER_DEFORMABLE, TOWER_NORMS, DropBlock, conv_tower
from ..option_checks import check_at_least, check_choice, check_groups, check_length


class GridHead(nn.Module):
    """A head that predicts from feature maps, resized to the strides of the levels, for the cells of a grid each."""

    def __init__(
        self,
        *,
        key: str,
        in_channels: int,
        in_strides: Sequence[int],
        level_strides: Sequence[int],
        num_grids: Sequence[int],
        num_classes: int,
        channels: int,
        num_convs: int,
        modulated: bool,
        norm: str = "GN",
        deformable: str = "none",
        drop_prob: float = 0.0,
        drop_size: int = 3,
    ) -> None:
        """
        Args:
            key: Config node of the options, such as "MODEL.SOLOV2", for messages.
            in_channels: Number of channels of every input feature map.
            in_strides: Strides of the input feature maps, input pixels.
            level_strides: Strides to which they are resized, input pixels.
            num_grids: Cells per side S of each level's grid.
            num_classes: Number of foreground classes K.
            channels: Width of all towers.
            num_convs: Number of convolutions in each tower.
            norm: "GN" (32 groups) or "none".
            deformable: Which convolutions of each tower are deformable: "none", "last" or "all".
            modulated: Whether deformable convolutions are v2 (with modulation) instead of v1.
            drop_prob: Share of a tower's output that DropBlock zeroes in training; 0 for none.
            drop_size: Side of a zeroed block, cells or pixels.

        Raises:
            ConfigError: An argument is out of range, or the numbers of levels differ.
        """
        super().__init__()
        check_length(f"{key}.NUM_GRIDS", num_grids, f"{key}.IN_FEATURES", len(in_strides))
        check_length(f"{key}.STRIDES", level_strides, f"{key}.IN_FEATURES", len(in_strides))
        check_at_least(f"{key}.NUM_CLASSES", num_classes, 1)
        check_at_least(f"{key}.NUM_INSTANCE_CONVS", num_convs, 1)
        check_choice(f"{key}.NORM", norm, TOWER_NORMS)
        check_choice(f"{key}.DEFORM_IN_INSTANCE", deformable, TOWER_DEFORMABLE)
        check_groups(f"{key}.INSTANCE_CHANNELS", channels, norm)
        self.in_strides = list(in_strides)
        self.level_strides = list(level_strides)
        self.num_grids = list(num_grids)
        self.make_tower = partial(
            conv_tower,
            channels=channels,
            num_convs=num_convs,
            norm=norm,
            bias=norm == "none",
            deformable=deformable,
            modulated=modulated,
        )
        self.cate_tower = self.make_tower(in_channels)
        # Behind each tower. Source: Ghiasi et al., arXiv 1810.12890.
        self.drop_block = DropBlock(drop_prob, drop_size) if drop_prob > 0 else nn.Identity()

    def resize(self, features: list[Tensor]) -> list[Tensor]:
        """Return the feature maps (N, C, Hi, Wi) at ``level_strides``."""
        return resize_levels(features, self.in_strides, self.level_strides)
