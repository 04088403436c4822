"""SSD's augmentation, and the view of an image in which all of its geometry is sampled at once."""
