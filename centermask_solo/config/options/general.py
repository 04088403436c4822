"""Training, data and input: options that all systems share."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_options(cfg: CfgNode) -> None:
    """Add the shared options to ``cfg``. They are specific to this package."""
    _add_training(cfg)
    _add_prediction(cfg)
    _add_datasets(cfg)
    _add_input(cfg)
    _add_augmentation(cfg)


def _add_training(cfg: CfgNode) -> None:
    # --- Training and inference ---
    # store convolution weights, and so activations, as (N, H, W, C); same results up to rounding, faster on a CPU and
    # with mixed precision on a GPU
    cfg.MODEL.CHANNELS_LAST = True
    # "SGD" (all published recipes) or "AdamW" (converges faster in short runs, or when few parameters are pretrained)
    cfg.SOLVER.OPTIMIZER = "SGD"

    # learning rates of parts relative to SOLVER.BASE_LR, [[pattern of parameter names, factor], ...]; * stands for
    # anything, and the first pattern that matches counts: [["backbone.bottom_up.*", 0.1]]
    cfg.SOLVER.LR_FACTORS = []

    # epochs to train for, in place of SOLVER.MAX_ITER, with the steps at the same shares of the training; 0: MAX_ITER
    cfg.SOLVER.EPOCHS = 0
    cfg.SOLVER.CHECKPOINT_EPOCHS = 0  # epochs between two checkpoints; 0: SOLVER.CHECKPOINT_PERIOD
    cfg.TEST.EVAL_EPOCHS = 0  # epochs between two evaluations; 0: TEST.EVAL_PERIOD
    # also compute the losses of DATASETS.TEST in each evaluation in training: the metrics validation/total_loss, ...
    cfg.TEST.LOSS = False
    # images of DATASETS.TEST that each evaluation in training draws for TensorBoard, with ground truth and detections
    cfg.TEST.PICTURES = 0
    # write report.html at the end of the training: curves, metrics, pictures, options and data
    cfg.TEST.REPORT = False
    # experiment trackers that follow the training, "wandb" and "mlflow"; their packages are extras
    cfg.SOLVER.TRACKERS = []
    # end the training after this many evaluations that are not better in TEST.KEEP_BEST; 0: never
    cfg.TEST.PATIENCE = 0

    # iterations at whose end the log says how many objects each level learns, and warns of those that are lost; 0: none
    cfg.SOLVER.REPORT_ITERATIONS = 20

    # parameters that are not trained, by patterns of their names, with the statistics of their batch norms:
    # ["backbone.bottom_up.*"]; see also MODEL.BACKBONE.FREEZE_AT, which freezes the first stages
    cfg.MODEL.FREEZE = []
    # let all batch norms that are trained use the statistics of all processes
    cfg.MODEL.SYNC_BN = False

    # parts that a batch is computed in, one after another, before one step with the gradients of the whole batch: for
    # batches that do not fit in memory; a divisor of the images of a process
    cfg.SOLVER.ACCUMULATE = 1
    # mixed precision of SOLVER.AMP.ENABLED: "bfloat16", "float16" (GPU only), or "auto": the first on a CPU, the second
    # on a GPU
    cfg.SOLVER.AMP.DTYPE = "auto"
    # compute the blocks of the backbone again in the backward pass instead of keeping what they computed: less memory,
    # the same gradients
    cfg.MODEL.BACKBONE.GRADIENT_CHECKPOINTING = False

    node = cfg.MODEL.EMA = CfgNode()
    # train with an exponential moving average of the weights, evaluated and saved beside them; a checkpoint followed by
    # "?ema=True" stands for its average
    node.ENABLED = False
    node.DECAY = 0.9998  # share of the average in the next one; 0.9998 spans the last 5,000 iterations
    node.WARM_UP = True  # at most (1 + t) / (10 + t) at iteration t: without it, initial weights count for long
    # metric of which the best evaluation's weights are kept in model_best.pth, such as "segm/AP"; "" for none
    cfg.TEST.KEEP_BEST = ""


def _add_prediction(cfg: CfgNode) -> None:
    # precision of the networks in prediction and in train_net.py --eval-only: "float32", "bfloat16", "float16" (GPU
    # only) or "int8" (CPU only); decoding, NMS and masks stay in float32
    cfg.TEST.DTYPE = "float32"
    # for "int8": the file of ranges that `centermask-solo calibrate` wrote for these weights
    cfg.TEST.INT8_RANGES = ""
    # compile the networks with torch.compile before the first prediction, which takes minutes
    cfg.TEST.COMPILE = False
    # replay the networks as CUDA graphs, one for each of the first 8 input sizes; not for deformable convolutions
    cfg.TEST.CUDA_GRAPHS = False
    # what computes COCO's metrics of boxes and masks: "hotcoco", "faster-coco-eval", "detectron2" (its compiled part),
    # "pycocotools", or "auto", the first of these that is installed; the metrics are the same
    cfg.TEST.EVAL_BACKEND = "auto"


def _add_datasets(cfg: CfgNode) -> None:
    # --- Datasets ---
    # COCO-format datasets to register, [[name, annotation file, image folder], ...]; DATASETS.TRAIN and DATASETS.TEST
    # may then name them
    cfg.DATASETS.COCO_JSON = []

    # read images that their json names by absolute paths, through "..", or by links that lead out of the image folder
    cfg.DATASETS.ALLOW_OUTSIDE_PATHS = False

    # share of the images that DATALOADER.SAMPLER_TRAIN "RandomSubsetTrainingSampler" draws once and trains on
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 1.0


def _add_input(cfg: CfgNode) -> None:
    # --- Input ---
    # number of channels of the images: 3 for colors in the order of INPUT.FORMAT; 1, 2, 4 or more for gray, alpha and
    # other bands in the order of the files, of which MODEL.PIXEL_MEAN and MODEL.PIXEL_STD then need one value each
    cfg.INPUT.CHANNELS = 3
    # refuse images of more pixels, which are mistakes or would take gigabytes of memory; 0 for no limit
    cfg.INPUT.MAX_IMAGE_PIXELS = 178_956_970
    # "default" (Detectron2's resizing, flipping and cropping) or "ssd" (for YOLACT only: SSD-style augmentation as in
    # the authors' code, flips as in INPUT.RANDOM_FLIP, resized to the square of MODEL.YOLACT.INPUT_SIZE)
    cfg.INPUT.AUGMENTATION = "default"
    cfg.INPUT.KEEP_CROWDS = False  # pass crowds to the model, marked by gt_is_crowd; only YOLACT uses them
    cfg.INPUT.MIN_BOX_SIZE = 0.0  # pixels; drop objects narrower or lower than this after augmentation
    node = cfg.INPUT.SSD = CfgNode()
    node.PHOTOMETRIC = True  # randomly change brightness, contrast, saturation and hue
    node.MAX_EXPAND = 4.0  # every second image is placed on a canvas of up to this many times its side; 1 disables it
    node.MIN_CROP = 0.3  # shortest side of a random crop relative to the canvas; 1 disables cropping


def _add_augmentation(cfg: CfgNode) -> None:
    node = cfg.INPUT.LSJ = CfgNode()
    # large-scale jitter in place of MIN_SIZE_TRAIN: resize to a random scale of a square, then crop or pad to it
    node.ENABLED = False
    node.SCALES = (0.1, 2.0)  # smallest and largest scale, relative to SIZE
    node.SIZE = 1024  # pixels; side of the square
    cfg.INPUT.COLOR = "none"  # random changes of brightness, contrast, saturation, hue: "weak", "medium" or "strong"
    node = cfg.INPUT.ERASE = CfgNode()
    node.PROB = 0.0  # share of the images in which a rectangle is filled with noise; masks lose what is below
    node.AREA = (0.02, 0.2)  # smallest and largest area of the rectangle relative to the image's
    node = cfg.INPUT.COPY_PASTE = CfgNode()
    node.PROB = 0.0  # share of the images that get objects of another image
    node.MAX_OBJECTS = 10  # most objects that are pasted into an image
    node = cfg.INPUT.MOSAIC = CfgNode()
    node.PROB = 0.0  # share of the images that become windows of four images
    node.OFF = 0.1  # share of the training, at its end, without mosaics
