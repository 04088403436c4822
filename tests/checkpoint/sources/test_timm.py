import pytest
import torch

from centermask_solo.checkpoint.sources.source import RGB_STANDARDIZED
from centermask_solo.checkpoint.sources.timm import HALF_FORMAT, SOURCE
from centermask_solo.modeling.backbone.vovnet import BODIES, VoVNet
from centermask_solo.modeling.backbone.vovnet_blocks import ESE
from tests.checkpoint.sources.backbones import tensors, timm_vovnet

# Entries of the state dicts of timm 1.0.31, to whose layout this was compared: names, shapes, and features of random
# weights, which were equal in every bit with batch norms, and to within 3e-4 of their spread with FrozenBN.
BODY_OF = {
    "ese_vovnet19b_slim_dw": ("V-19-slim-dw-eSE", 156),
    "ese_vovnet19b_dw": ("V-19-dw-eSE", 162),
    "ese_vovnet39b": ("V-39-eSE", 244),
    "ese_vovnet57b": ("V-57-eSE", 352),
    "ese_vovnet99b": ("V-99-eSE", 604),
}


@pytest.mark.parametrize("name", BODY_OF)
def test_every_name_and_shape_has_its_place(name):
    body, num_entries = BODY_OF[name]
    theirs = tensors(timm_vovnet(body))
    assert len(theirs) == num_entries
    with torch.device("meta"):
        ours = VoVNet(BODIES[body], out_features=["stage5"]).state_dict()
    converted = {key: tuple(value.shape) for key, value in SOURCE.translate(theirs).weights.items()}
    assert converted == {key: tuple(value.shape) for key, value in ours.items()}
    assert SOURCE.pixel_format(theirs) == (HALF_FORMAT if name == "ese_vovnet57b" else RGB_STANDARDIZED)


def test_a_gate_that_timm_does_not_have_is_exactly_open():
    weights = SOURCE.translate(tensors(timm_vovnet("V-39-eSE"))).weights
    added = {key for key, value in weights.items() if not value.is_meta}
    assert added == {f"stage{s}.OSA{s}_1.ese.fc.{name}" for s in (4, 5) for name in ("weight", "bias")}
    gate = ESE(768)
    gate.load_state_dict({f"fc.{name}": weights[f"stage4.OSA4_1.ese.fc.{name}"] for name in ("weight", "bias")})
    x = torch.randn(2, 768, 5, 7)
    assert torch.equal(gate(x), x)
