"""Images that are only inside of labelme's files, as files of their own."""

from __future__ import annotations

import os

from ...utils.files import atomic_write
from .folders import below, progress
from .labelme_folder import common_root, open_image
from .readers import Dataset


def write_images_inside(data: Dataset, folder: str) -> Dataset:
    """Write the images that have no file of their own to a folder; return the dataset with the paths of these files.

    Args:
        data: A dataset; if all of its images have files, it is returned as it is.
        folder: Created if missing; files of the same names are replaced.

    Raises:
        UserError: An image is damaged, or cannot be written.
    """
    if not any(x.inside for x in data.images):
        return data
    images = []
    for x in progress(data.images, "images"):
        if x.inside:
            path = os.path.join(folder, *x.file_name.split("/"))
            with open_image(x) as content, atomic_write(path, "wb", durable=False) as file:
                file.write(content.read())
            x = x._replace(path=path, inside="")
        images.append(x)
    root = common_root(folder, [x.path for x in images])
    return data._replace(images=[x._replace(file_name=below(x.path, root)) for x in images], image_root=root)
