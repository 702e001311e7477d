import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from trainer.efficientnet import EfficientNetLite0, SameConv2d
from trainer.fusion import fuse_batchnorm


@pytest.fixture(scope="module")
def peer() -> EfficientNet:
    """The conversion whose weights are to load, with random weights and statistics."""
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return network


@pytest.fixture(scope="module")
def ours(peer: EfficientNet) -> EfficientNetLite0:
    network = EfficientNetLite0()
    theirs = {name: tensor for name, tensor in peer.state_dict().items() if not name.startswith("_fc.")}
    network.load_state_dict(theirs)
    return network.eval()


@torch.no_grad()
def test_features_are_those_of_the_network_whose_weights_load(
    peer: EfficientNet, ours: EfficientNetLite0
) -> None:
    images = torch.randn(2, 3, 224, 224)
    expected = peer.extract_features(images).mean(dim=(2, 3))
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images), expected)


@torch.no_grad()
def test_folding_batchnorm_leaves_features_as_they_are(ours: EfficientNetLite0) -> None:
    images = torch.randn(2, 3, 96, 96)
    folded = EfficientNetLite0()
    folded.load_state_dict(ours.state_dict())
    fuse_batchnorm(folded.eval())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), ours(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 1)])
def test_convolutions_pad_as_tensorflow_does(size: int, kernel: int, stride: int) -> None:
    """By hand: out = ceil(size / stride); of the zeros that this takes, the smaller half is before."""
    convolution = SameConv2d(1, 1, kernel, stride)
    torch.nn.init.ones_(convolution.weight)
    image = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    expected = torch.zeros(out, out)
    for i in range(out):
        for j in range(out):
            for y in range(i * stride - before, i * stride - before + kernel):
                for x in range(j * stride - before, j * stride - before + kernel):
                    if 0 <= y < size and 0 <= x < size:
                        expected[i, j] += image[0, 0, y, x]
    torch.testing.assert_close(convolution(image)[0, 0], expected)
