"""The distribution ``centermask_solo``: its requirements and its contents."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
SOURCE = (ROOT / "centermask_solo" / "__init__.py").read_text(encoding="utf-8")
README = ROOT / "README.md"

# Detectron2 is required but not listed: PyPI has no distribution of that name, and a copy built from source must not be
# replaced by another one. `make env` installs one if none can be imported.
REQUIREMENTS = [
    "torch>=2.1",
    "torchvision>=0.16",
    "numpy",
    "opencv-python-headless",
    "Pillow",
    "pycocotools>=2.0.7",
    "matplotlib",
    "safetensors>=0.4",
    "tqdm",
    # required by Detectron2
    "fvcore>=0.1.5",
    "iopath>=0.1.9",
    "yacs>=0.1.8",
    "omegaconf>=2.1,<2.4",
    "hydra-core>=1.1",
    "cloudpickle",
    "tabulate",
    "termcolor>=1.1",
    "tensorboard",
    "packaging",
]
FAST_EVAL_REQUIREMENTS = ["hotcoco>=1.3,<2"]  # TEST.EVAL_BACKEND, with NumPy as its only requirement
TIFF_REQUIREMENTS = ["tifffile"]  # of TIFF files with more bands than Pillow reads
TIMM_REQUIREMENTS = ["timm>=1.0.9", "huggingface_hub"]  # of the backbones of timm
RCNN_REQUIREMENTS = ["scikit-image>=0.22", "scikit-learn>=1.3"]  # of selective search, and of R-CNN's training
# As in centermask_solo/runtime/formats.py, which checks them; onnxruntime-gpu serves as well as onnxruntime.
EXPORT_REQUIREMENTS = ["onnx>=1.18,<2", "onnxscript>=0.7.2,<1", "onnxruntime>=1.23,<2", "openvino>=2025.2,<2027"]
VIDEO_REQUIREMENTS = ["av>=14,<19"]  # as in centermask_solo/utils/packages.py
TEST_REQUIREMENTS = [
    "pytest>=7",
    "pytest-timeout",
    "pytest-xdist",
    "scipy",
    "faster-coco-eval>=1.8",
    *EXPORT_REQUIREMENTS,
    *FAST_EVAL_REQUIREMENTS,
    *RCNN_REQUIREMENTS,
    *TIFF_REQUIREMENTS,
    *TIMM_REQUIREMENTS,
    *VIDEO_REQUIREMENTS,
]
LINT_REQUIREMENTS = ["ruff>=0.17,<0.18", "mypy>=2.4,<3"]  # other versions format and check differently

setup(
    name="centermask_solo",
    version=re.search(r'^__version__ = "([^"]+)"', SOURCE, re.MULTILINE).group(1),
    description="CenterMask, SOLOv2 and YOLACT: fast instance segmentation on Detectron2",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["centermask_solo", "centermask_solo.*"]), "centermask_solo.configs"],
    package_dir={"centermask_solo.configs": "configs"},
    package_data={
        "centermask_solo": ["py.typed"],
        "centermask_solo.model_zoo": ["models.yaml", "signatures.json"],
        "centermask_solo.configs": ["*.yaml", "**/*.yaml"],
    },
    zip_safe=False,
    install_requires=REQUIREMENTS,
    extras_require={
        "export": EXPORT_REQUIREMENTS,
        "fast-eval": FAST_EVAL_REQUIREMENTS,
        "rcnn": RCNN_REQUIREMENTS,
        "tiff": TIFF_REQUIREMENTS,
        "timm": TIMM_REQUIREMENTS,
        "video": VIDEO_REQUIREMENTS,
        "hub": ["huggingface_hub"],
        "wandb": ["wandb"],
        "mlflow": ["mlflow"],
        "test": TEST_REQUIREMENTS,
        "dev": [*TEST_REQUIREMENTS, *LINT_REQUIREMENTS],
    },
    entry_points={"console_scripts": ["centermask-solo = centermask_solo.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
