"""Backbones beyond Detectron2's."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_options(cfg: CfgNode) -> None:
    """Add the backbones' options to ``cfg``. Deformable convolution is named as in Detectron2's ``MODEL.RESNETS``.

    With the builders ``build_deform_resnet...`` and ``build_resnet_yolact...``, ``MODEL.RESNETS.NORM`` may also be
    "FixedStatsBN" or "BNFrom6".
    """
    # --- ResNet ---
    # "basic", a 7x7 convolution, or "deep", three 3x3 convolutions; "deep" with POOL_SHORTCUTS is ResNet-D
    # (arXiv 1812.01187), "ResNet-vd" in PaddleDetection, whose weights need STRIDE_IN_1X1 False
    cfg.MODEL.RESNETS.STEM_TYPE = "basic"
    # shortcuts of stride 2 average 2x2 pixels instead of skipping three of four
    cfg.MODEL.RESNETS.POOL_SHORTCUTS = False
    cfg.MODEL.RESNETS.DEFORM_INTERVAL = 1  # in deformable stages, every n-th block is deformable, from the first on

    # --- DarkNet-53 (YOLACT) ---
    node = cfg.MODEL.DARKNET = CfgNode()
    node.OUT_FEATURES = ["stage3", "stage4", "stage5"]  # strides 8, 16, 32; also "stage1" (2) and "stage2" (4)
    # "FrozenBN", "BN", "SyncBN" or "BNFrom6" ("BN" with 6 or more images per GPU, "FrozenBN" with fewer)
    node.NORM = "BNFrom6"

    # --- MobileNetV2 (CenterMask2) ---
    node = cfg.MODEL.MOBILENETV2 = CfgNode()
    node.NORM = "FrozenBN"  # "FrozenBN", "BN" or "SyncBN"; MODEL.RESNETS.OUT_FEATURES names the outputs

    # --- timm ---
    # for the builders build_timm_backbone, build_timm_fpn_backbone, build_fcos_timm_fpn_backbone and
    # build_timm_yolact_fpn_backbone, which need the package timm
    node = cfg.MODEL.TIMM = CfgNode()
    node.NAME = "resnet50"  # any model of timm that gives feature maps; a tag chooses weights: "resnet50.a1_in1k"
    # strides 4, 8, 16, 32; some models also have "res1" (2) or "res0" (1)
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    node.NORM = "FrozenBN"  # what its batch norms become: "FrozenBN", "BN" or "SyncBN"; other norms stay as they are
    # further arguments of the model in timm, [[name, value], ...], such as [["drop_path_rate", 0.1]]
    node.ARGUMENTS = []

    # --- VoVNetV2 (CenterMask2) ---
    node = cfg.MODEL.VOVNET = CfgNode()
    node.CONV_BODY = "V-39-eSE"  # V-{19-slim-dw,19-dw,19-slim,19,39,57,99}-eSE
    node.OUT_FEATURES = ["stage2", "stage3", "stage4", "stage5"]  # strides 4, 8, 16, 32; also "stem" (4)
    node.NORM = "FrozenBN"  # "FrozenBN", "BN", "SyncBN" or "GN"
    node.DEFORM_ON_PER_STAGE = [False, False, False, False]  # make all 3x3 convolutions of stages 2 to 5 deformable
    node.DEFORM_MODULATED = False  # True: DCNv2, False: DCN v1
    node.DEFORM_NUM_GROUPS = 1  # groups of channels with offsets of their own
