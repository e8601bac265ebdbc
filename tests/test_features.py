"""What networks see: Inception from a file, a user's own, LPIPS, and all that can be wrong with their files."""

import sys
import types

import pytest
import torch
from torch import nn

from pygan import features
from pygan.errors import UserError
from pygan.features import hog, inception, kind, network, perceptual
from pygan.pictures import to_uint8


def pictures(n=2, channels=3, size=16, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Net(nn.Module):
    """Mean and corner of each channel, and logits of that."""

    def __init__(self, two: bool = True):
        super().__init__()
        self.two = two

    def forward(self, x):
        seen = torch.cat([x.mean(dim=(2, 3)), x[:, :, 0, 0]], dim=1)
        return seen, seen[:, :4] * 2.0


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return self.conv(x)


def script(net, path):
    torch.jit.script(net).save(str(path))
    return path


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Random weights in the network's own format."""
    try:
        module = inception.extractor()
    except UserError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    # The constructor wants weights; the names and shapes are those that it refuses an empty file for.
    with pytest.raises(RuntimeError) as refusal:
        module.FeatureExtractorInceptionV3("x", ["2048"], kind.as_file({}))
    assert "Conv2d_1a_3x3.conv.weight" in str(refusal.value)
    hollow = module.FeatureExtractorInceptionV3.load_state_dict
    try:
        module.FeatureExtractorInceptionV3.load_state_dict = lambda self, state: None
        net = module.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], kind.as_file({}))
    finally:
        module.FeatureExtractorInceptionV3.load_state_dict = hollow
    for m in net.modules():
        if isinstance(m, nn.Conv2d):  # so that something is left of the picture at the end
            nn.init.kaiming_normal_(m.weight)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path, net


def test_inception_is_the_network_of_the_library(inception_weights):
    path, net = inception_weights
    seen = features.load(f"inception:{path}", "cpu")
    images = pictures(2, size=32)
    got, logits = seen.with_logits(images)
    with torch.no_grad():
        expected, expected_logits = net(kind.to_bytes(images))
    assert torch.equal(got, expected)
    assert torch.equal(logits, expected_logits)
    assert got.shape == (2, seen.dim) == (2, 2048)
    assert logits.shape == (2, 1008)
    assert not torch.allclose(got[0], got[1])
    assert seen.facts["sha256"] == kind.digest(path)


def test_a_grey_picture_is_the_same_as_three_equal_channels():
    seen = features.load("hog", "cpu")
    grey = pictures(2, channels=1)
    assert torch.equal(seen(grey), seen(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="1 or 3"):
        seen(pictures(2, channels=4))


def test_networks_of_bytes_see_what_a_picture_file_would_hold():
    images = pictures(2) * 1.1
    assert (kind.to_bytes(images).permute(0, 2, 3, 1).numpy() == to_uint8(images)).all()


def test_the_librarys_cache_is_looked_into(tmp_path, monkeypatch, inception_weights):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="weights-inception") as error:
        features.load("inception", "cpu")
    assert "inception:FILE" in str(error.value)
    assert "\n" not in str(error.value)
    name = inception.extractor().URL_INCEPTION_V3.rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).symlink_to(inception_weights[0])
    assert features.load("inception", "cpu").dim == 2048


def test_inception_leaves_no_half_package_behind(inception_weights):
    package = sys.modules.get("torch_fidelity")
    assert package is None or package.__file__


def test_without_the_library_one_line_says_so(monkeypatch):
    monkeypatch.setattr(inception, "_MODULE", "torch_fidelity_that_is_not_there.x")
    with pytest.raises(UserError, match=r"pip install '\.\[metrics\]' in pygan's checkout"):
        features.load("inception", "cpu")


class Evil:
    def __reduce__(self):
        return (print, ("code was run",))


@pytest.mark.parametrize("content", ["text", "pickle", "list", "other"])
def test_wrong_weights_are_refused_in_one_line_and_run_nothing(tmp_path, content, capsys):
    path = tmp_path / "w.pth"
    if content == "text":
        path.write_text("nothing of the kind")
    else:
        torch.save({"pickle": {"a": Evil()}, "list": [1], "other": {"a": torch.zeros(1)}}[content], path)
    for load, spec in ((features.load, f"inception:{path}"), (features.lpips, f"alex:{path}")):
        with pytest.raises(UserError) as error:
            load(spec, "cpu")
        assert "\n" not in str(error.value)
    assert "code was run" not in capsys.readouterr().out


def test_torchscript_sees_what_it_is_given(tmp_path):
    path = script(Net(), tmp_path / "net.pt")
    seen = features.load(str(path), "cpu")
    images = pictures(3)
    got, logits = seen.with_logits(images)
    expected = torch.cat([images.mean(dim=(2, 3)), images[:, :, 0, 0]], dim=1)
    assert torch.allclose(got, expected)
    assert torch.allclose(logits, expected[:, :4] * 2)
    assert seen.has_logits
    assert seen.name == f"net.pt ({kind.digest(path)})"
    assert seen.facts["kind"] == "TorchScript"


@pytest.mark.parametrize(
    ("values", "expected"), [("signed", -1.0), ("unit", 0.0), ("bytes", 0.0), ("imagenet", -0.485 / 0.229)]
)
def test_ranges(tmp_path, values, expected):
    seen = features.load(str(script(Net(), tmp_path / "net.pt")), "cpu", values=values)
    assert seen(torch.full((1, 3, 4, 4), -1.0))[0, 0] == pytest.approx(expected, abs=1e-5)
    top = {"signed": 1, "unit": 1, "bytes": 255, "imagenet": (1 - 0.485) / 0.229}[values]
    assert seen(torch.full((1, 3, 4, 4), 1.0))[0, 0] == pytest.approx(top, rel=1e-5)


def test_maps_are_flattened_and_the_size_can_be_fixed(tmp_path):
    path = script(Maps(), tmp_path / "maps.pt")
    seen = features.load(str(path), "cpu", size=8)
    assert seen.dim == 5 * 6 * 6
    assert seen(pictures(2, size=16)).shape == (2, 180)
    loose = features.load(str(path), "cpu")
    with pytest.raises(UserError, match="--network-size"):
        loose(pictures(2, size=16))


class Unfit(nn.Module):
    def forward(self, x):
        return x.mean()


class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("net", [Unfit(), Narrow()])
def test_a_network_that_does_not_take_pictures_is_named(tmp_path, net):
    with pytest.raises(UserError, match=r"net\.pt") as error:
        features.load(str(script(net, tmp_path / "net.pt")), "cpu")
    assert "\n" not in str(error.value)


def test_a_pickled_module_is_no_torchscript(tmp_path):
    torch.save(Net(), tmp_path / "net.pt")
    with pytest.raises(UserError, match="no TorchScript"):
        features.load(str(tmp_path / "net.pt"), "cpu")
    (tmp_path / "cut.pt").write_bytes(script(Net(), tmp_path / "whole.pt").read_bytes()[:500])
    with pytest.raises(UserError, match="no TorchScript"):
        features.load(str(tmp_path / "cut.pt"), "cpu")
    with pytest.raises(UserError, match="no such network"):
        features.load(str(tmp_path / "none.pt"), "cpu")
    with pytest.raises(UserError, match="--network-range"):
        features.load(str(tmp_path / "whole.pt"), "cpu", values="wide")


def onnx_net(path, shape, kind_of="FLOAT", channels=3):
    """Mean over the places of a picture, as float."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, types_ = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=types_.FLOAT),
        helper.make_node("GlobalAveragePool", ["f"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", getattr(types_, kind_of), [*shape[:1], channels, *shape[1:]])],
        [helper.make_tensor_value_info("y", types_.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_onnx_sees_the_same_and_says_its_size(tmp_path):
    images = pictures(3)
    seen = features.load(str(onnx_net(tmp_path / "a.onnx", ["n", "h", "w"])), "cpu")
    assert torch.allclose(seen(images), images.mean(dim=(2, 3)), atol=1e-6)
    fixed = onnx_net(tmp_path / "b.onnx", [1, 8, 8], "UINT8")
    small = network.Network(fixed, torch.device("cpu"))
    assert small.size == (8, 8)
    assert small.dtype == torch.uint8
    seen = features.load(str(fixed), "cpu")  # one picture at a time, of bytes
    expected = kind.to_bytes(kind.resized(images, (8, 8))).float().mean(dim=(2, 3))
    assert torch.allclose(seen(images), expected, atol=1e-4)
    assert seen.facts["size"] == "8x8"
    with pytest.raises(UserError, match="leave --network-size out"):
        features.load(str(fixed), "cpu", size=16)


def test_onnx_that_is_none_or_takes_no_pictures(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_text("nothing")
    with pytest.raises(UserError, match="no ONNX network"):
        features.load(str(tmp_path / "a.onnx"), "cpu")
    with pytest.raises(UserError, match="one input"):
        features.load(str(onnx_net(tmp_path / "b.onnx", ["n", 8, 8], channels=7)), "cpu")


def test_onnx_without_its_runtime(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_text("x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="onnxruntime"):
        features.load(str(tmp_path / "a.onnx"), "cpu")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Random weights of AlexNet and VGG-16 in torchvision's format."""
    found = {}
    for name in ("alex", "vgg"):
        torch.manual_seed(1)
        layers = perceptual._Backbone(name).layers
        for layer in layers:
            if isinstance(layer, nn.Conv2d):  # so that something is left of the picture at the end
                nn.init.kaiming_normal_(layer.weight)
        path = tmp_path_factory.mktemp("lpips") / f"{name}.pth"
        state = {f"features.{key}": value for key, value in layers.state_dict().items()}
        torch.save(state | {"classifier.6.bias": torch.zeros(3)}, path)
        found[name] = path, layers
    return found


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_is_that_of_torchmetrics(backbones, name, monkeypatch):
    """Its own formula, with the same backbone in the place of torchvision's."""
    with inception.importable():
        lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    path, layers = backbones[name]
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda net, pretrained: layers)
    reference = lpips._NoTrainLpips(pretrained=True, net=name)
    seen = features.lpips(f"{name}:{path}", "cpu")
    for size in (64, 32):
        a, b = pictures(3, size=size), pictures(3, size=size, seed=1)
        with torch.no_grad():
            expected = reference(a, b).flatten()
        assert torch.allclose(seen(a, b), expected, rtol=1e-5)
    assert seen(a, a).tolist() == [0, 0, 0]
    assert float(seen(a, b).min()) > 0
    assert seen.metric == "lpips"


def test_lpips_of_small_pictures_is_that_of_enlarged_ones(backbones):
    seen = features.lpips(f"alex:{backbones['alex'][0]}", "cpu")
    a, b = pictures(2, size=16), pictures(2, size=16, seed=1)
    large = [torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear") for x in (a, b)]
    assert torch.allclose(seen(a, b), seen(*large))


def test_lpips_names_what_is_missing(tmp_path, monkeypatch, backbones):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"alexnet-owt.*alex:FILE"):
        features.lpips("alex", "cpu")
    with pytest.raises(UserError, match="not torchvision's weights of AlexNet"):
        features.lpips(f"alex:{backbones['vgg'][0]}", "cpu")
    with pytest.raises(UserError, match="no such network"):
        features.lpips("squeeze", "cpu")
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs torchmetrics"):
        features.lpips(f"alex:{backbones['alex'][0]}", "cpu")


def test_the_distance_by_a_network_of_ones_own(tmp_path):
    torch.manual_seed(0)
    net = Maps()
    seen = features.lpips(str(script(net, tmp_path / "maps.pt")), "cpu")
    a, b = pictures(2), pictures(2, seed=1)
    with torch.no_grad():
        x, y = (nn.functional.normalize(net(z), dim=1) for z in (a, b))
    assert torch.allclose(seen(a, b), (x - y).square().sum(dim=1).mean(dim=(1, 2)), atol=1e-5)
    assert seen.metric == "feature_distance"
    flat = features.lpips(str(script(Net(), tmp_path / "net.pt")), "cpu")
    assert flat(a, b).shape == (2,)
    with pytest.raises(ValueError, match="one shape"):
        seen(a, b[:1])


def test_edges_and_colours():
    seen = features.load("hog", "cpu")
    assert not seen.judges
    upright = torch.full((1, 3, 64, 64), -1.0)
    upright[:, :, :, 32:] = 1.0
    lying = upright.transpose(2, 3)
    vertical, horizontal = (hog.edges(kind.to_bytes(x).float()) for x in (upright, lying))
    assert float((vertical * horizontal).sum()) < 0.05 * float(vertical.square().sum())
    shifted = upright.roll(1, dims=3)
    apart = [float((seen(upright) - seen(other)).norm()) for other in (shifted, lying)]
    assert apart[0] < apart[1]
    red = torch.full((1, 3, 64, 64), -1.0)
    red[:, 0] = 1.0
    counts = hog.colours(kind.to_bytes(red).float())
    assert counts[0].argmax() == 3 * 16
    assert counts.sum() == 64 * 64
    assert seen(pictures(3, size=20)).shape == (3, seen.dim)


def test_a_package_that_works_is_left_alone(monkeypatch):
    package = types.ModuleType("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    with inception.importable():
        assert sys.modules["torch_fidelity"] is package
    assert sys.modules["torch_fidelity"] is package
