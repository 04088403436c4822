"""Generated images of shapes with exact masks, in COCO format."""

from .generator import NUM_IMAGES, draw_shapes, ensure_shapes, generate_shapes
from .scenes import CLASSES, DEFAULT_SIZE

__all__ = ["CLASSES", "DEFAULT_SIZE", "NUM_IMAGES", "draw_shapes", "ensure_shapes", "generate_shapes"]
