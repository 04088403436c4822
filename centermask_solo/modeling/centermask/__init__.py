"""CenterMask: FCOS boxes, a spatial attention-guided mask head on each of them, and the masks' predicted IoU."""
