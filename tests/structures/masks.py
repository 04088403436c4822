"""Masks for the tests of their forms."""

import numpy as np
import torch


def random_masks(count=12, height=17, width=23, seed=0):
    """Blocks anywhere, some at the borders, some noisy; the first is empty, the second is the whole image."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), dtype=bool)
    masks[1] = True
    for i in range(2, count):
        y, x = rng.integers(-3, (height, width))
        masks[i, max(y, 0) : y + 9, max(x, 0) : x + 11] = rng.random() if i % 2 else True
        masks[i] &= rng.random((height, width)) < (0.5 if i % 3 else 2)
    masks[-1], masks[-1, :, width // 2] = True, False  # its runs go on from column to column
    return torch.from_numpy(masks)
