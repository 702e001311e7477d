import pytest
import torch

from trainer.backbone import ResNet

# torchvision's numbers of parameters less the 1000-way classifier; for 200, which torchvision has not,
# timm's 64,673,832 less the same classifier.
PARAMETERS = {
    18: 11_689_512 - 513_000,
    34: 21_797_672 - 513_000,
    50: 25_557_032 - 2_049_000,
    101: 44_549_160 - 2_049_000,
    152: 60_192_808 - 2_049_000,
    200: 64_673_832 - 2_049_000,
}


@pytest.mark.parametrize("depth", PARAMETERS)
def test_the_network_has_as_many_parameters_as_its_original(depth: int) -> None:
    with torch.device("meta"):
        network = ResNet(depth)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[depth]


def test_parameters_are_named_as_in_torchvision() -> None:
    names = set(ResNet(50, width=2).state_dict())
    for name in (
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv3.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.num_batches_tracked",
        "layer3.5.bn2.bias",
        "layer4.2.conv1.weight",
    ):
        assert name in names
    assert "layer1.1.downsample.0.weight" not in names
    assert "layer1.0.downsample.0.weight" not in ResNet(18, width=2).state_dict()


@pytest.mark.parametrize(
    ("stem", "side", "stage_side"), [("imagenet", 64, 16), ("cifar", 32, 32), ("strided", 32, 16)]
)
def test_stems_reduce_the_image_as_they_should(stem: str, side: int, stage_side: int) -> None:
    network = ResNet(18, stem, width=4).eval()
    shapes = []
    network.layer1.register_forward_hook(lambda _, inputs, output: shapes.append(output.shape))
    features = network(torch.rand(2, 3, side, side))
    assert shapes == [(2, 4, stage_side, stage_side)]
    assert features.shape == (2, 32)
    assert (features >= 0).all()


def test_width_scales_every_stage() -> None:
    assert ResNet(18, width=16).num_features == 128
    assert ResNet(50, width=64).num_features == 2048


def test_residual_branches_start_at_zero() -> None:
    network = ResNet(18, "cifar", width=4).eval()
    block = network.layer1[1]
    x = torch.rand(1, 4, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_unknown_depths_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="depth is 20: it must be one of 18, 34"):
        ResNet(20)
