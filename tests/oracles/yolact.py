"""YOLACT's matching, mining and mask loss, slow and literal. For tests only."""

from __future__ import annotations

import math

from tests.oracles.ops import box_iou


def assign_one_to_one(ious):
    """The anchor of each object (a row of ``ious``): again and again the best pair of what is free; -1 for none."""
    chosen = [-1] * len(ious)
    pairs = sorted((-value, i, j) for i, row in enumerate(ious) for j, value in enumerate(row))
    for _, i, j in pairs:
        if chosen[i] < 0 and j not in chosen:
            chosen[i] = j
    return chosen


def match_anchors(anchors, boxes, classes, crowd_boxes, positive_iou, negative_iou, crowd_ioa):
    """YOLACT's labels of anchors and the object of each: class + 1, 0 for background, -1 for no part."""
    ious = [[box_iou(box, anchor) for anchor in anchors] for box in boxes]
    forced = assign_one_to_one(ious)
    labels, objects = [], []
    for j, anchor in enumerate(anchors):
        best = max(range(len(boxes)), key=lambda i: (ious[i][j], -i), default=0)
        iou = ious[best][j] if boxes else 0.0
        if j in forced:
            best, iou = forced.index(j), 2.0
        label = 0
        if iou >= positive_iou:
            label = classes[best] + 1
        elif iou >= negative_iou:
            label = -1
        else:
            area = (anchor[2] - anchor[0]) * (anchor[3] - anchor[1])
            for crowd in crowd_boxes:
                width = min(anchor[2], crowd[2]) - max(anchor[0], crowd[0])
                height = min(anchor[3], crowd[3]) - max(anchor[1], crowd[1])
                if width > 0 and height > 0 and width * height / area > crowd_ioa:
                    label = -1
        labels.append(label)
        objects.append(best)
    return labels, objects


def mine_negatives(logits, labels, ratio):
    """The hardest background rows of one image, (R,) of bool: ``logits`` (R, K + 1) of float64, background first."""
    num_negatives = min(ratio * sum(x > 0 for x in labels), len(labels) - 1)
    background = [i for i, label in enumerate(labels) if label == 0]
    ranked = sorted(background, key=lambda i: math.log(sum(math.exp(x) for x in logits[i])) - logits[i][0])
    chosen = ranked[len(ranked) - min(num_negatives, len(ranked)) :]
    return [i in chosen for i in range(len(labels))]


def box_mask_loss(coefficients, prototypes, boxes, gt_masks):
    """YOLACT's mask loss of each row, pixel by pixel: prototypes (E, h, w), boxes in fractions, gt_masks (M, h, w)."""
    _, height, width = prototypes.shape
    losses = []
    for k, box, gt in zip(coefficients, boxes, gt_masks, strict=True):
        total = 0.0
        for y in range(height):
            for x in range(width):
                in_columns = box[0] * width - 1 <= x < box[2] * width + 1
                if in_columns and box[1] * height - 1 <= y < box[3] * height + 1:
                    logit = sum(a * b for a, b in zip(k.tolist(), prototypes[:, y, x].tolist(), strict=True))
                    p = 1 / (1 + math.exp(-logit))
                    total -= math.log(p if gt[y, x] else 1 - p)
        losses.append(total / ((box[2] - box[0]) * width * (box[3] - box[1]) * height))
    return losses
