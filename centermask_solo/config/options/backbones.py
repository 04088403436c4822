"""Backbones beyond Detectron2's."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_options(cfg: CfgNode) -> None:
    """Add the backbones' options to ``cfg``. Deformable convolution is named as in Detectron2's ``MODEL.RESNETS``.

    With the builders ``build_deform_resnet...`` and ``build_resnet_yolact...``, ``MODEL.RESNETS.NORM`` may also be
    "FixedStatsBN" or "BNFrom6".
    """
    # --- ResNet ---
    cfg.MODEL.RESNETS.DEFORM_INTERVAL = 1  # in deformable stages, every n-th block is deformable, from the first on

    # --- DarkNet-53 (YOLACT) ---
    node = cfg.MODEL.DARKNET = CfgNode()
    node.OUT_FEATURES = ["stage3", "stage4", "stage5"]  # strides 8, 16, 32; also "stage1" (2) and "stage2" (4)
    # "FrozenBN", "BN", "SyncBN" or "BNFrom6" ("BN" with 6 or more images per GPU, "FrozenBN" with fewer)
    node.NORM = "BNFrom6"

    # --- MobileNetV2 (CenterMask2) ---
    node = cfg.MODEL.MOBILENETV2 = CfgNode()
    node.NORM = "FrozenBN"  # "FrozenBN", "BN" or "SyncBN"; MODEL.RESNETS.OUT_FEATURES names the outputs

    # --- VoVNetV2 (CenterMask2) ---
    node = cfg.MODEL.VOVNET = CfgNode()
    node.CONV_BODY = "V-39-eSE"  # V-{19-slim-dw,19-dw,19-slim,19,39,57,99}-eSE
    node.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]  # strides 4, 8, 16, 32; also "stem" (4)
    node.NORM = "FrozenBN"  # "FrozenBN", "BN", "SyncBN" or "GN"
    node.DEFORM_ON_PER_STAGE = [False, False, False, False]  # make all 3x3 convolutions of stages 2 to 5 deformable
    node.DEFORM_MODULATED = False  # True: DCNv2, False: DCN v1
    node.DEFORM_NUM_GROUPS = 1  # groups of channels with offsets of their own
