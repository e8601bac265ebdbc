"""`pygan import`: networks as other programs build and save them come out of a run with the same pictures."""

import functools
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pygan import checkpoint, use
from pygan.__main__ import main
from pygan.imports import PEERS

# The networks of the PyTorch CycleGAN/pix2pix port, in its module structure


class Skip(nn.Module):
    """One level of the port's U-Net, around the next one."""

    def __init__(self, outer, inner, inside, norm, dropout=False, c_in=None, outermost=False):
        super().__init__()
        self.outermost = outermost
        bias = not isinstance(norm(1), nn.BatchNorm2d)
        down = nn.Conv2d(c_in or outer, inner, 4, 2, 1, bias=bias)
        if outermost:
            layers = [down, inside, nn.ReLU(True), nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1), nn.Tanh()]
        elif inside is None:
            up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(outer)]
        else:
            up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2, True), down, norm(inner), inside, nn.ReLU(True), up, norm(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UNet(nn.Module):
    def __init__(self, c_in=3, c_out=3, downs=7, ngf=4, norm=nn.BatchNorm2d, dropout=False):
        super().__init__()
        block = Skip(8 * ngf, 8 * ngf, None, norm)
        for _ in range(downs - 5):
            block = Skip(8 * ngf, 8 * ngf, block, norm, dropout)
        for width in (4, 2, 1):
            block = Skip(width * ngf, 2 * width * ngf, block, norm)
        self.model = Skip(c_out, ngf, block, norm, c_in=c_in, outermost=True)

    def forward(self, x):
        return self.model(x)


class Block(nn.Module):
    def __init__(self, c, norm, dropout, bias):
        super().__init__()
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=bias), norm(c), nn.ReLU(True)]
        layers += [nn.Dropout(0.5)] if dropout else []
        self.conv_block = nn.Sequential(*layers, nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=bias), norm(c))

    def forward(self, x):
        return x + self.conv_block(x)


class ResNet(nn.Module):
    def __init__(self, c_in=3, c_out=3, blocks=6, ngf=4, norm=nn.InstanceNorm2d, dropout=False):
        super().__init__()
        bias = not isinstance(norm(1), nn.BatchNorm2d)
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(c_in, ngf, 7, bias=bias), norm(ngf), nn.ReLU(True)]
        for c in (ngf, 2 * ngf):
            layers += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm(2 * c), nn.ReLU(True)]
        layers += [Block(4 * ngf, norm, dropout, bias) for _ in range(blocks)]
        for c in (4 * ngf, 2 * ngf):
            up = nn.ConvTranspose2d(c, c // 2, 3, 2, padding=1, output_padding=1, bias=bias)
            layers += [up, norm(c // 2), nn.ReLU(True)]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, c_out, 7), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class PatchD(nn.Module):
    def __init__(self, c=6, ndf=4):
        super().__init__()
        layers = [nn.Conv2d(c, ndf, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        layers += [nn.Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * ndf), nn.LeakyReLU(0.2, True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(2 * ndf, 1, 4, 1, 1))


class PixelD(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(6, 4, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(4, 1, 1, bias=False))


# StarGAN's own


class Residual(nn.Module):
    def __init__(self, c, norm):
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(c, c, 3, 1, 1, bias=False), norm(c), nn.ReLU(inplace=True)),
            *(nn.Conv2d(c, c, 3, 1, 1, bias=False), norm(c)),
        )

    def forward(self, x):
        return x + self.main(x)


class StarG(nn.Module):
    def __init__(self, c_dim=5, conv_dim=4, blocks=2):
        super().__init__()
        norm = functools.partial(nn.InstanceNorm2d, affine=True, track_running_stats=True)
        layers = [nn.Conv2d(3 + c_dim, conv_dim, 7, 1, 3, bias=False), norm(conv_dim), nn.ReLU(inplace=True)]
        for c in (conv_dim, 2 * conv_dim):
            layers += [nn.Conv2d(c, 2 * c, 4, 2, 1, bias=False), norm(2 * c), nn.ReLU(inplace=True)]
        layers += [Residual(4 * conv_dim, norm) for _ in range(blocks)]
        for c in (4 * conv_dim, 2 * conv_dim):
            layers += [nn.ConvTranspose2d(c, c // 2, 4, 2, 1, bias=False), norm(c // 2), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*layers, nn.Conv2d(conv_dim, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, x, c):
        c = c.view(c.size(0), c.size(1), 1, 1).repeat(1, 1, x.size(2), x.size(3))
        return self.main(torch.cat([x, c], dim=1))


class StarD(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.01))
        self.conv1, self.conv2 = nn.Conv2d(4, 1, 3, 1, 1, bias=False), nn.Conv2d(4, 5, 4, bias=False)


def trained(net, seed=0):
    """The net with weights, scales and running statistics that are nothing special."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
                tensor.uniform_(0.5, 1.5, generator=draws)
            elif tensor.is_floating_point() and tensor.dim() == 1:
                tensor.normal_(0.0, 0.2, generator=draws)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, (2.0 / tensor[0].numel()) ** 0.5, generator=draws)
    return net


def saved(net, path):
    torch.save(net.state_dict(), path)
    return path


def noise(n, c, size, seed=1):
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def imported(capfd, file, name, run, *flags):
    assert main(["import", str(file), "--as", name, "--run", str(run), *flags]) == 0, capfd.readouterr().err
    return use.load(run, "last", "cpu")


def same(ours, theirs, images, **options):
    """Each picture by itself, as the port's own test program shows them to its network."""
    with torch.no_grad():
        expected = torch.cat([theirs(one) for one in images.split(1)])
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.translate(images, **options), expected, rtol=0, atol=1e-5)


OLD_INSTANCE = functools.partial(nn.InstanceNorm2d, track_running_stats=True)
AFFINE = functools.partial(nn.InstanceNorm2d, affine=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: UNet(downs=7),
        lambda: UNet(downs=8, norm=nn.InstanceNorm2d),
        lambda: UNet(downs=7, norm=OLD_INSTANCE, c_in=1, c_out=2),
        lambda: UNet(downs=8, c_in=3, c_out=1),
        lambda: UNet(downs=7, norm=AFFINE),
        lambda: UNet(downs=5, ngf=8),
    ],
    ids=["128 BN", "256 IN", "128 old IN", "256 BN grey", "128 affine IN", "32 BN"],
)
def test_a_u_net_paints_what_it_painted(make, tmp_path, capfd):
    net = trained(make())
    file = saved(net, tmp_path / "latest_net_G.pth")
    ours = imported(capfd, file, "pix2pix", tmp_path / "run", "--no-dropout")
    size = 2**ours.recipe.levels
    same(ours, net, noise(2, ours.recipe.input_channels, size))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResNet(blocks=9),
        lambda: ResNet(blocks=6, norm=nn.BatchNorm2d, c_in=1),
        lambda: ResNet(blocks=6, norm=OLD_INSTANCE, c_out=1),
        lambda: UNet(downs=7, norm=nn.InstanceNorm2d),
    ],
    ids=["9 IN", "6 BN", "6 old IN", "U-Net"],
)
def test_a_resnet_paints_what_it_painted(make, tmp_path, capfd):
    net = trained(make())
    file = saved(net, tmp_path / "latest_net_G_A.pth")
    ours = imported(capfd, file, "cyclegan", tmp_path / "run")
    same(ours, net, noise(2, ours.recipe.input_channels, 128 if ours.recipe.generator == "unet" else 40))


def test_both_directions(tmp_path, capfd):
    there, back = trained(ResNet(c_in=1), 0), trained(ResNet(c_out=1), 1)
    files = saved(there, tmp_path / "A.pth"), saved(back, tmp_path / "B.pth")
    ours = imported(capfd, files[0], "cyclegan", tmp_path / "run", "--back", str(files[1]))
    same(ours, there, noise(1, 1, 32))
    same(ours, back, noise(1, 3, 32), direction="BtoA")
    one = imported(capfd, files[0], "cyclegan", tmp_path / "one")
    assert one.recipe.learned == "AtoB"
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    argv = ["translate", str(tmp_path / "one"), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    assert main([*argv, "--direction", "BtoA"]) == 2
    assert "got 'BtoA'; it learned only that way, or only that was imported" in capfd.readouterr().err
    assert (
        main(["import", str(files[0]), "--as", "cyclegan", "--back", str(files[0]), "--run", str(tmp_path / "x")]) == 2
    )
    assert "is not the way back" in capfd.readouterr().err


def test_running_statistics_as_with_eval(tmp_path, capfd):
    for net, name in (
        (UNet(downs=7, dropout=True), "pix2pix"),
        (ResNet(norm=nn.BatchNorm2d, dropout=True), "cyclegan"),
    ):
        net = trained(net)
        for seed in range(30):  # until the running statistics are those of such pictures
            net(noise(2, 3, 128, seed))
        file = saved(net, tmp_path / f"{name}.pth")
        ours = imported(capfd, file, name, tmp_path / name, "--eval")
        same(ours, net.eval(), noise(2, 3, 128 if name == "pix2pix" else 32))


def test_dropout_of_a_u_net_must_be_told_and_stays_on(tmp_path, capfd):
    net = trained(UNet(downs=7, dropout=True))
    file = saved(net, tmp_path / "G.pth")
    assert main(["import", str(file), "--as", "pix2pix", "--run", str(tmp_path / "run")]) == 2
    assert "does not say whether its U-Net has dropout: add --dropout" in capfd.readouterr().err
    ours = imported(capfd, file, "pix2pix", tmp_path / "run", "--dropout")
    assert (ours.recipe.dropout_levels, ours.recipe.test_dropout, ours.recipe.test_bn) == ("jy", True, "batch")
    image = noise(1, 3, 128)
    a, again, b = (ours.translate(image, ours.rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, again)
    assert not torch.allclose(a, b, atol=1e-2)
    torch.manual_seed(0)
    # Both average over their masks to about the same picture.
    with torch.no_grad():
        theirs = torch.stack([net(image) for _ in range(60)]).mean(0)
    mean = torch.stack([ours.translate(image, ours.rng(seed)) for seed in range(60)]).mean(0)
    spread = torch.stack([ours.translate(image, ours.rng(seed)) for seed in range(60, 120)]).mean(0)
    assert (mean - theirs).abs().mean() < 1.3 * (mean - spread).abs().mean()


def test_dropout_of_a_resnet_is_seen(tmp_path, capfd):
    net = trained(ResNet(dropout=True))
    file = saved(net, tmp_path / "G.pth")
    ours = imported(capfd, file, "cyclegan", tmp_path / "run")
    assert ours.recipe.dropout_p == 0.5
    same(ours, net.eval(), noise(2, 3, 32))
    assert main(["import", str(file), "--as", "cyclegan", "--no-dropout", "--run", str(tmp_path / "x")]) == 2
    assert "has dropout; leave --dropout and --no-dropout out" in capfd.readouterr().err


def test_a_norm_that_the_file_does_not_tell_is_asked_for(tmp_path, capfd):
    net = trained(UNet(downs=5, norm=functools.partial(nn.InstanceNorm2d, affine=True, track_running_stats=True)))
    file = saved(net, tmp_path / "G.pth")
    argv = ["import", str(file), "--as", "pix2pix", "--no-dropout", "--run", str(tmp_path / "run")]
    assert main(argv) == 2
    assert "add --norm batch or --norm instance" in capfd.readouterr().err
    ours = imported(capfd, file, "pix2pix", tmp_path / "run", "--no-dropout", "--norm", "instance")
    same(ours, net, noise(2, 3, 32))

    biased = trained(UNet(downs=5))
    for module in biased.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is None:
            channels = module.out_channels
            module.bias = nn.Parameter(0.1 * torch.arange(channels) / channels)
    file = saved(biased, tmp_path / "biased.pth")
    ours = imported(capfd, file, "pix2pix", tmp_path / "other", "--eval", "--norm", "batch")
    assert ours.recipe.bias == "all"
    same(ours, biased.eval(), noise(2, 3, 32))


def test_wrapped_and_half_precision_files(tmp_path, capfd):
    net = trained(ResNet().half().float())
    wrapped = {f"module.{key}": value.half() for key, value in net.state_dict().items()}
    net.load_state_dict({key.removeprefix("module."): value.float() for key, value in wrapped.items()})
    torch.save(wrapped, tmp_path / "G.pth", _use_new_zipfile_serialization=False)
    same(imported(capfd, tmp_path / "G.pth", "cyclegan", tmp_path / "run"), net, noise(1, 3, 32))


@pytest.mark.parametrize(
    ("planes", "flags", "to", "code"),
    [
        (5, [], "Blond_Hair,Male", [0, 1, 0, 1, 0]),
        (8, [], "happy", [0, 0, 0, 0, 1, 0, 0, 0]),
        (3, ["--labels", "a,b,c"], "c", [0, 0, 1]),
        (15, [], "angry", [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (6, ["--labels", "a,b", "--labels-2", "x,y"], "a,b", [1, 1, 0, 0, 1, 0]),
    ],
)
def test_a_star_paints_what_it_painted(planes, flags, to, code, tmp_path, capfd):
    net = trained(StarG(planes))
    file = saved(net, tmp_path / "200000-G.ckpt")
    ours = imported(capfd, file, "stargan", tmp_path / "run", *flags)
    code = torch.tensor([code], dtype=torch.float32)
    same(ours, lambda x: net(x, code), noise(2, 3, 32), to=to)  # in training mode, as its authors use it


def test_pictures_from_the_command_line(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = trained(StarG())
    saved(net, tmp_path / "200000-G.ckpt")
    assert main(["import", "200000-G.ckpt", "--as", "stargan"]) == 0
    said = capfd.readouterr().out
    assert "a StarGAN generator of 2 blocks and 5 label planes" in said
    assert "runs/stargan/200000-G" in said
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("a.png")
    run = "runs/stargan/200000-G"
    assert main(["translate", run, "a.png", "-o", "out", "--to", "Young", "--device", "cpu"]) == 0
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = net(image, torch.tensor([[0.0, 0, 0, 0, 1]]))[0].permute(1, 2, 0).add(1).mul(127.5).round().numpy()
    assert np.abs(np.asarray(Image.open("out/a.png")) - expected).max() <= 1
    assert main(["translate", run, "a.png", "-o", "out", "--to", "Blue"]) == 2
    assert "--to does not know 'Blue'" in capfd.readouterr().err

    assert main(["import", "200000-G.ckpt", "--as", "stargan"]) == 2
    assert "already holds a run; choose another --run" in capfd.readouterr().err
    assert json.loads((tmp_path / run / "recipe.json").read_text())["imported"] == ["200000-G.ckpt"]
    (found,) = checkpoint.find(tmp_path / run / "checkpoints")
    assert found.facts["finished"] is True  # so that `pygan train` does not go on without a D


# Files that are something else


class Evil:
    def __reduce__(self):
        return print, ("this must never be seen",)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


def broken(path):
    saved(ResNet(), path)
    path.write_bytes(path.read_bytes()[:2000])


def with_nan(path):
    net = ResNet()
    nn.init.constant_(net.model[1].weight, float("nan"))
    saved(net, path)


def with_another_key(path):
    torch.save(ResNet().state_dict() | {"model.2.weight_u": torch.zeros(3)}, path)


def without_a_layer(path):
    state = ResNet().state_dict()
    del state["model.11.conv_block.5.weight"]
    torch.save(state, path)


def without_norms(path):
    state = ResNet(norm=nn.BatchNorm2d).state_dict()
    torch.save({key: value for key, value in state.items() if value.dim() == 4}, path)


WRONG = {
    "patch D": (lambda p: saved(PatchD(), p), "is a PatchGAN discriminator of the PyTorch CycleGAN/pix2pix port"),
    "pixel D": (lambda p: saved(PixelD(), p), "a pixel discriminator of the PyTorch CycleGAN/pix2pix port"),
    "star D": (lambda p: saved(StarD(), p), "StarGAN's code, no generator; import the file of its G"),
    "U-Net": (lambda p: saved(UNet(), p), "7 levels (batch norm), which --as stargan has not; import it --as pix2pix"),
    "5 blocks": (lambda p: saved(ResNet(blocks=5), p), "understood are 6 and 9 blocks"),
    "another": (lambda p: saved(nn.Linear(3, 2), p), "understood (2 tensors, the first 'weight' of shape [2, 3])"),
    "no state dict": (lambda p: torch.save(torch.zeros(3), p), "holds a Tensor, not the state_dict of a network"),
    "several": (lambda p: torch.save({"epoch": 3, "G": {}}, p), "it holds epoch, G: save that of G by itself"),
    "empty dict": (lambda p: torch.save({}, p), "it holds nothing"),
    "whole net": (lambda p: torch.save(ResNet(), p), "Python objects (test_import.ResNet), which are never loaded"),
    "code": (lambda p: torch.save({"a": Evil()}, p), "holds Python objects (print), which are never loaded"),
    "script": (lambda p: torch.jit.script(nn.ReLU()).save(p), "a TorchScript program, which would run code"),
    "zip": (zipped, "is a zip archive without a PyTorch checkpoint in it"),
    "broken": (broken, "is a damaged archive or checkpoint"),
    "text": (lambda p: p.write_text("no network\n"), "is text, not a PyTorch checkpoint"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html><html>"), "is a web page: the download did not give the file"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "noise": (lambda p: p.write_bytes(bytes(range(7, 200))), "is not a PyTorch checkpoint"),
    "pickle": (lambda p: p.write_bytes(b"\x80\x02garbage"), "is not a PyTorch checkpoint, or is damaged"),
    "safetensors": (lambda p: save_file({"a": torch.zeros(3)}, p), "is a safetensors file; a checkpoint as"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file, as Keras writes them"),
    "picture": (lambda p: Image.new("RGB", (4, 4)).save(p, "PNG"), "is a PNG picture"),
    "folder": (lambda p: p.mkdir(), "is a folder: name the file of a generator in it"),
    "missing": (lambda p: None, "there is no file"),
    "NaN": (with_nan, "holds NaN or infinite values in stem.conv.weight"),
    "another key": (with_another_key, "has a tensor 'model.2.weight_u' that such a one has not"),
    "a layer less": (without_a_layer, "its model.11.conv_block.5.weight is missing or no convolution"),
    "no norm": (without_norms, "without norms, which is not understood"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_named_as_what_it_is(what, tmp_path, capfd):
    make, says = WRONG[what]
    file = tmp_path / "file.pth"
    make(file)
    capfd.readouterr()
    name = "stargan" if what == "U-Net" else "cyclegan"
    assert main(["import", str(file), "--as", name, "--run", str(tmp_path / "run")]) == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert str(file) in err
    assert says in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--as", "pix2pix"], "6 blocks (instance norm), which --as pix2pix has not; import it --as cyclegan"),
        (["--as", "pix2pix", "--back", "x.pth"], "--back is for --as cyclegan"),
        (["--as", "pix2pix", "--labels", "a"], "--labels is for --as stargan, not pix2pix"),
        (["--as", "stargan", "--norm", "batch"], "--norm says nothing about a StarGAN generator"),
        (["--as", "cyclegan", "--norm", "batch"], "--norm is batch, but the network in"),
    ],
)  # fmt: skip
def test_wrong_flags(flags, says, tmp_path, capfd):
    file = saved(ResNet(), tmp_path / "G.pth")
    assert main(["import", str(file), *flags, "--run", str(tmp_path / "run")]) == 2
    assert says in capfd.readouterr().err


def test_labels_that_do_not_count(tmp_path, capfd):
    file = saved(StarG(4), tmp_path / "1-G.ckpt")
    for flags, says in (
        ([], "has 4 label planes; name them: --labels NAME,NAME,..."),
        (["--labels", "a,b"], "has 4 label planes, --labels and --labels-2 name 2"),
    ):
        assert main(["import", str(file), "--as", "stargan", *flags, "--run", str(tmp_path / "run")]) == 2
        assert says in capfd.readouterr().err


def test_every_peer_is_a_gan():
    from pygan import gans

    assert set(PEERS) <= set(gans.names())
