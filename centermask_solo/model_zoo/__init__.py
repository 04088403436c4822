"""The published models: their configs, their figures and their weights, with the verbs of Detectron2's model zoo.

``MODEL.WEIGHTS`` "centermask_solo://SOLOv2/solov2_R_50_3x.yaml" means the published weights of that config.
"""

from ..config import config_dir, find_config_file
from .lookup import find_config
from .models import Model, Release, find_model, list_models
from .verbs import get, get_checkpoint_url, get_config, get_config_file
from .weights import FOLDER_VARIABLE, PREFIX, find_weights, weights_state

__all__ = [
    "FOLDER_VARIABLE",
    "PREFIX",
    "Model",
    "Release",
    "config_dir",
    "find_config",
    "find_config_file",
    "find_model",
    "find_weights",
    "get",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "list_models",
    "weights_state",
]
