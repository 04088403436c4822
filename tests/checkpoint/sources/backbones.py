"""The names and shapes of published ImageNet files, written down from the descriptions of their layouts."""

import torch
import torchvision

NORM = ("weight", "bias", "running_mean", "running_var")
# Channels of the stem, of the 3x3 layers, of the outputs; layers of a block; blocks of a stage; depthwise
VOVNETS = {
    "V-19-slim-dw-eSE": ((64, 64, 64), (64, 80, 96, 112), (112, 256, 384, 512), 3, (1, 1, 1, 1), True),
    "V-19-dw-eSE": ((64, 64, 64), (128, 160, 192, 224), (256, 512, 768, 1024), 3, (1, 1, 1, 1), True),
    "V-19-slim-eSE": ((64, 64, 128), (64, 80, 96, 112), (112, 256, 384, 512), 3, (1, 1, 1, 1), False),
    "V-19-eSE": ((64, 64, 128), (128, 160, 192, 224), (256, 512, 768, 1024), 3, (1, 1, 1, 1), False),
    "V-39-eSE": ((64, 64, 128), (128, 160, 192, 224), (256, 512, 768, 1024), 5, (1, 1, 2, 2), False),
    "V-57-eSE": ((64, 64, 128), (128, 160, 192, 224), (256, 512, 768, 1024), 5, (1, 1, 4, 3), False),
    "V-99-eSE": ((64, 64, 128), (128, 160, 192, 224), (256, 512, 768, 1024), 5, (1, 3, 9, 3), False),
}


def vovnet_units(body):
    """Of each convolutional unit: its name in the authors' files and in timm's, C out, C in, kernel, depthwise."""
    stem, conv, out, layers, blocks, depthwise = VOVNETS[body]
    for i, (c_in, c_out) in enumerate(zip((3, *stem[:2]), stem, strict=True)):
        yield f"stem.stem_{i + 1}", f"stem.{i}", c_out, c_in, 3, depthwise and i > 0
    c_in = stem[2]
    for s in range(4):
        for b in range(blocks[s]):
            osa = f"OSA{s + 2}_{b + 1}"
            ours, theirs = f"stage{s + 2}.{osa}", f"stages.{s}.blocks.{b}"
            current = c_in
            if depthwise and c_in != conv[s]:
                yield f"{ours}.conv_reduction.{osa}_reduction_0", f"{theirs}.conv_reduction", conv[s], c_in, 1, False
                current = conv[s]
            for i in range(layers):
                yield f"{ours}.layers.{i}.{osa}_{i}", f"{theirs}.conv_mid.{i}", conv[s], current, 3, depthwise
                current = conv[s]
            yield f"{ours}.concat.{osa}_concat", f"{theirs}.conv_concat", out[s], c_in + layers * conv[s], 1, False
            c_in = out[s]


def unit(name, c_out, c_in, k, depthwise, parts, norm):
    plain, dw, pw = parts
    if not depthwise:
        shapes = {f"{name}{plain}.weight": (c_out, c_in, k, k)}
    else:
        shapes = {f"{name}{dw}.weight": (c_in, 1, 3, 3), f"{name}{pw}.weight": (c_out, c_in, 1, 1)}
    return shapes | {f"{name}{norm}.{value}": (c_out,) for value in NORM}


def vovnet(body, prefix="backbone.bottom_up."):
    """The authors' file."""
    shapes = {}
    for name, _, c_out, c_in, k, depthwise in vovnet_units(body):
        norm = "/pw_norm" if depthwise else "/norm"
        shapes |= unit(name, c_out, c_in, k, depthwise, ("/conv", "/dw_conv3x3", "/pw_conv1x1"), norm)
        if ".concat." in name:
            gate = f"{name.split('.concat.')[0]}.ese.fc"
            shapes |= {f"{gate}.weight": (c_out, c_out, 1, 1), f"{gate}.bias": (c_out,)}
    return {prefix + key: shape for key, shape in shapes.items()}


def timm_vovnet(body):
    """timm's file: eSE in the last block of each stage alone."""
    blocks, out = VOVNETS[body][4], VOVNETS[body][2]
    shapes = {"head.fc.weight": (1000, out[3]), "head.fc.bias": (1000,)}
    for _, name, c_out, c_in, k, depthwise in vovnet_units(body):
        shapes |= unit(name, c_out, c_in, k, depthwise, (".conv", ".conv_dw", ".conv_pw"), ".bn")
        shapes[f"{name}.bn.num_batches_tracked"] = ()
    for s, (count, channels) in enumerate(zip(blocks, out, strict=True)):
        gate = f"stages.{s}.blocks.{count - 1}.attn.fc"
        shapes |= {f"{gate}.weight": (channels, channels, 1, 1), f"{gate}.bias": (channels,)}
    return shapes


def caffe2_resnet(depth, groups=1, width=64, classifier="fc1000"):
    """A ``.pkl`` of Detectron2's model zoo whose names are Caffe2's."""
    shapes = {"conv1_w": (64, 3, 7, 7), f"{classifier}_w": (1000, 2048), f"{classifier}_b": (1000,)}
    if depth == 50:
        shapes["conv1_b"] = (64,)

    def norm(name, channels):
        return {f"{name}_bn_{value}": (channels,) for value in ("gamma", "beta", "running_mean", "running_var")}

    shapes |= norm("res_conv1", 64)
    c_in = 64
    for s, blocks in enumerate((3, 4, 6 if depth == 50 else 23, 3)):
        inner, out = groups * width * 2**s, 256 * 2**s
        for b in range(blocks):
            at = f"res{s + 2}_{b}_branch"
            convs = {"2a": (inner, c_in, 1, 1), "2b": (inner, inner // groups, 3, 3), "2c": (out, inner, 1, 1)}
            if b == 0:
                convs["1"] = (out, c_in, 1, 1)
            for branch, shape in convs.items():
                shapes |= {f"{at}{branch}_w": shape, **norm(at + branch, shape[0])}
            c_in = out
    return shapes


def torchvision_shapes(name):
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in getattr(torchvision.models, name)().state_dict().items()}


def in_detectron2_words(shapes):
    """A file of torchvision after Detectron2's converter: everything that is in no layer is in the stem."""
    renamed = {}
    for key, shape in shapes.items():
        name = key if "layer" in key else f"stem.{key}"
        for i in (1, 2, 3, 4):
            name = name.replace(f"layer{i}", f"res{i + 1}").replace(f"bn{i}", f"conv{i}.norm")
        renamed[name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")] = shape
    return renamed


def mobilenetv2(prefix=""):
    """In the names of its first PyTorch version: every block one sequence, activations counted."""
    shapes = {"features.0.0.weight": (32, 3, 3, 3), **{f"features.0.1.{value}": (32,) for value in NORM}}
    c_in, index = 32, 1
    for t, c, n in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        for _ in range(n):
            wide = t * c_in
            convs = (
                [(wide, 1, 3, 3), (c, wide, 1, 1)] if t == 1 else [(wide, c_in, 1, 1), (wide, 1, 3, 3), (c, wide, 1, 1)]
            )
            for i, shape in enumerate(convs):
                at = f"features.{index}.conv."
                shapes[f"{at}{3 * i}.weight"] = shape
                shapes |= {f"{at}{3 * i + 1}.{value}": shape[:1] for value in NORM}
            c_in, index = c, index + 1
    return {prefix + key: shape for key, shape in shapes.items()}


def resnet_d_shapes():
    """timm's resnet50d: a stem of three convolutions, and pooling ahead of the shortcuts."""
    shapes = {}
    for key, shape in torchvision_shapes("resnet50").items():
        block, shifts, part = key.partition("downsample.")
        shapes[f"{block}{shifts}{int(part[0]) + 1}{part[1:]}" if shifts else key] = shape
    del shapes["conv1.weight"]
    for place, c_out, c_in in ((0, 32, 3), (3, 32, 32), (6, 64, 32)):
        shapes[f"conv1.{place}.weight"] = (c_out, c_in, 3, 3)
        if place < 6:
            norm = {f"conv1.{place + 1}.{name}": (c_out,) for name in NORM}
            shapes |= {**norm, f"conv1.{place + 1}.num_batches_tracked": ()}
    return shapes


def tensors(shapes):
    """On the meta device: no memory, no values."""
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
