"""`pygan evaluate` and `evaluate.judge`: the numbers by hand, every GAN, and all that a user can get wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pygan import distributions, evaluate, features, gans, heldout, metrics, segmentation, use
from pygan.__main__ import main
from pygan.errors import UserError
from pygan.evaluate import pairs, progress, scoring, segmenter
from pygan.features import inception
from pygan.ops.philox import new_rng

CPU = torch.device("cpu")


class Net(nn.Module):
    """Channel means and corners as features, twice the first four of them as logits."""

    def forward(self, x):
        seen = torch.cat([x.mean(dim=(2, 3)), x[:, :, 0, 0]], dim=1)
        return seen, seen[:, :4] * 2.0


class Flat(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


class Single(nn.Module):
    """One number a picture, without an axis for it."""

    def forward(self, x):
        return x.mean(dim=(1, 2, 3))


class Maps(nn.Module):
    """Features that nobody pooled."""

    def forward(self, x):
        return torch.cat([x, x, x], dim=1)


class First(nn.Module):
    """Reads class 1 everywhere, at twice the size."""

    def forward(self, x):
        return torch.ones(x.shape[0], 2 * x.shape[2], 2 * x.shape[3], dtype=torch.int64)


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    for name, net in {"net": Net(), "flat": Flat(), "single": Single(), "maps": Maps(), "first": First()}.items():
        torch.jit.script(net).save(str(folder / f"{name}.pt"))
    return folder


def trained(path, gan, *flags):
    common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--run", str(path)]
    assert main(["train", gan, *common, *flags]) == 0
    return path


@pytest.fixture(scope="module")
def dcgan(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("e") / "dcgan", "dcgan", "--data-images", "40", "--epochs", "1")


@pytest.fixture(scope="module")
def facades(tmp_path_factory):
    """Labels to photos."""
    flags = ("--data-images", "40", "--epochs", "1", "--decay-epochs", "0", "--no-test-dropout")
    return trained(tmp_path_factory.mktemp("e") / "facades", "pix2pix", *flags)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Photos to labels."""
    flags = ("--data-images", "40", "--epochs", "1", "--decay-epochs", "0", "--direction", "AtoB", "--no-test-dropout")
    return trained(tmp_path_factory.mktemp("e") / "labels", "pix2pix", *flags)


def evaluated(run, tmp_path, *flags):
    out = tmp_path / "e.json"
    assert main(["evaluate", str(run), "--device", "cpu", "-o", str(out), *flags]) == 0
    return json.loads(out.read_text())


def value(facts, name, way="output"):
    return facts["ways"][way]["scores"][name]["value"]


def feed_of(run):
    """(the run as it is used, its held-out feed)."""
    one = use.load(run, "last", "cpu")
    return one, one.gan.batches(one.recipe, "held-out", CPU)


def test_sets_by_hand(dcgan, nets, tmp_path):
    facts = evaluated(dcgan, tmp_path, "--features", str(nets / "net.pt"), "-n", "10", "--batch", "4", "--seed", "3")
    one, feed = feed_of(dcgan)
    seen = features.load(str(nets / "net.pt"), "cpu")
    with feed, torch.no_grad():
        real = torch.cat([batch.image for batch in heldout.batches(feed, feed.n_items)])
        parts = []
        for k, n in enumerate((4, 4, 4)):
            rng = new_rng(3, CPU)
            rng[1] = k
            parts.append(one.gan.generate(one.net, one.recipe, n, rng))
    fake = torch.cat(parts)[:10]
    assert len(fake.flatten(1).unique(dim=0)) == 10  # no noise comes twice
    sides = []
    for images in (fake, real):
        sides.append(distributions.Moments(6))
        sides[-1].add(seen(images))
    assert value(facts, "fid") == pytest.approx(distributions.frechet(*sides))
    assert value(facts, "kid") == pytest.approx(distributions.kid(seen(fake), seen(real), seed=3).mean)
    score = distributions.InceptionScore(10, seed=3)
    score.add(seen.with_logits(fake)[1])
    assert value(facts, "is") == pytest.approx(score.score().mean)
    assert (facts["ways"]["output"]["generated"], facts["ways"]["output"]["real"]) == (10, len(real))
    assert facts["networks"]["features"]["sha256"] in seen.name
    assert set(facts["ways"]["output"]["scores"]) == {"fid", "kid", "is"}
    assert facts["images_seen"] == 40
    assert facts["data"]["split"] == "held-out"
    assert facts["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_a_kid_of_a_choice_says_so(dcgan, nets, tmp_path, capsys):
    flags = ("--features", str(nets / "net.pt"), "--split", "train", "--metrics", "kid", "--kid-subset-size", "5")
    facts = evaluated(dcgan, tmp_path, *flags, "--kid-kept", "12", "--kid-subsets", "7")
    score = facts["ways"]["output"]["scores"]["kid"]
    assert (score["subsets"], score["subset_size"]) == (7, 5)
    assert score["std"] > 0
    assert "KID: of a fair choice of 12 pictures" in capsys.readouterr().out
    assert len(facts["notes"]) == 1
    assert evaluated(dcgan, tmp_path, *flags)["notes"] == []


def test_a_kid_says_what_its_subsets_are(dcgan, nets, tmp_path):
    flags = ("--features", str(nets / "net.pt"), "--split", "train", "--metrics", "kid", "--kid-subsets", "7")
    facts = evaluated(dcgan, tmp_path, *flags)
    real = facts["ways"]["output"]["real"]
    assert facts["notes"] == ["KID: of all at once, fewer than a subset of 1,000"]
    facts = evaluated(dcgan, tmp_path, *flags, "-n", str(2 * real))  # the generated ones are chosen from
    assert facts["ways"]["output"]["scores"]["kid"]["subsets"] == 7
    assert facts["notes"] == [f"KID: in subsets of {real}, all that one kind has, fewer than a subset of 1,000"]


def test_progress_tells_speed_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    with progress.Bar(40) as bar:
        bar.add(10, "AtoB")
    line = capsys.readouterr().out
    assert "10/40 images  AtoB" in line
    assert "images/s" in line
    assert "left" in line


def test_the_whole_set_is_real_however_few_are_made(dcgan, nets, tmp_path):
    flags = ("--features", str(nets / "net.pt"), "--batch", "3")
    for split, n in (("train", 40), ("held-out", 4), ("all", 44)):
        one = evaluated(dcgan, tmp_path, *flags, "--split", split, "-n", "2")["ways"]["output"]
        assert (one["generated"], one["real"]) == (2, n)
        one = evaluated(dcgan, tmp_path, *flags, "--split", split)["ways"]["output"]
        assert (one["generated"], one["real"]) == (n, n)


def test_pairs_by_hand(facades, nets, tmp_path):
    flags = ("--metrics", "l1,psnr,ssim,gradient_correlation,lpips", "--lpips", str(nets / "flat.pt"))
    facts = evaluated(facades, tmp_path, *flags, "--batch", "3")
    one, feed = feed_of(facades)
    with feed:
        expected = heldout.means(lambda batch: one.gan.measure({"G": one.net}, one.recipe, batch), feed, feed.n_items)
    for name, mean in expected.items():
        score = facts["ways"]["output"]["scores"][name]
        assert score["value"] == pytest.approx(mean, rel=1e-5)
        assert score["low"] <= score["value"] <= score["high"]
    assert "lpips" not in facts["ways"]["output"]["scores"]  # a network of the user's is named for what it is
    assert value(facts, "feature_distance") > 0
    assert "not LPIPS" in facts["networks"]["lpips"]["note"]
    whole = evaluated(facades, tmp_path, *flags, "--batch", "16")
    assert value(whole, "l1") == pytest.approx(value(facts, "l1"), rel=1e-5)
    first = evaluated(facades, tmp_path, *flags, "-n", "1")
    assert first["ways"]["output"]["generated"] == first["ways"]["output"]["real"] == 1


def test_more_than_there_are_is_said(facades, nets, tmp_path, capsys):
    facts = evaluated(facades, tmp_path, "--metrics", "l1", "-n", "999")
    assert facts["ways"]["output"]["generated"] == 4
    assert "--number 999: there are 4 items" in capsys.readouterr().err
    for n, expected in ((3, 3), (42, 42), (99, 44)):  # over both parts of the set
        facts = evaluated(facades, tmp_path, "--metrics", "l1", "--split", "all", "-n", str(n))
        assert facts["ways"]["output"]["generated"] == facts["ways"]["output"]["real"] == expected


def test_class_maps_by_hand(labels, nets, tmp_path):
    facts = evaluated(labels, tmp_path, "--metrics", "segmentation")
    one, feed = feed_of(labels)
    hist = 0
    with feed:
        for batch in heldout.batches(feed, feed.n_items):
            truth = segmentation.ids(batch.B, segmentation.FACADES)
            guess = segmentation.ids(one.translate(batch.A), segmentation.FACADES)
            hist = hist + segmentation.histogram(truth, guess, 12)
    for name, expected in segmentation.scores(hist).items():
        assert value(facts, f"segmentation/{name}") == pytest.approx(expected)
    assert facts["ways"]["output"]["scores"]["segmentation/class_iou"]["palette"] == "facades"
    ignoring = evaluated(labels, tmp_path, "--metrics", "segmentation", "--ignore-absent")
    assert value(ignoring, "segmentation/class_accuracy") >= value(facts, "segmentation/class_accuracy")


def test_fcn_score_by_hand(facades, nets, tmp_path):
    flags = ("--metrics", "segmentation", "--segmenter", str(nets / "first.pt"))
    for more in ((), ("--segmenter-input", "bgr-mean", "--segmenter-size", "40x24")):
        facts = evaluated(facades, tmp_path, *flags, *more)
        if not more:
            _, feed = feed_of(facades)
            with feed:
                truth = torch.cat([segmentation.ids(b.A, segmentation.FACADES) for b in heldout.batches(feed, 99)])
            expected = float((truth == 1).double().mean())
            assert value(facts, "fcn/pixel_accuracy") == pytest.approx(expected)
            assert value(facts, "fcn_of_real/pixel_accuracy") == pytest.approx(expected)
    assert facts["networks"]["segmenter"]["size"] == "40x24"
    assert facts["networks"]["segmenter"]["values"] == "bgr-mean"


def test_the_input_of_the_papers_segmenter(nets):
    """Blue, green, red in 0..255 less their means, at the size that is asked for."""
    got = []

    class Spy:
        device, path = CPU, "spy"

        def run(self, values):
            got.append(values)
            return (torch.zeros(len(values), 19, *values.shape[2:]),)

    one = segmenter.Segmenter(Spy(), "bgr-mean", (6, 10))
    colour = torch.tensor([255.0, 100.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4) / 127.5 - 1
    assert one(colour, 19).shape == (2, 6, 10)
    assert got[0].shape == (2, 3, 6, 10)
    wanted = [0 - 72.78044, 100 - 83.21195, 255 - 73.45286]
    assert got[0][0, :, 0, 0].tolist() == pytest.approx(wanted, abs=1e-3)


def test_a_segmenter_of_other_classes_is_refused(facades, nets, tmp_path, capsys):
    flags = ["--segmenter", str(nets / "net.pt"), "--metrics", "segmentation", "-o", str(tmp_path / "x.json")]
    assert main(["evaluate", str(facades), *flags]) == 2
    assert "logits (n, 12, h, w) or ids" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_labels_count_only_those_that_have_them(tmp_path_factory, nets, tmp_path):
    run = trained(tmp_path_factory.mktemp("e") / "stargan", "stargan", "--steps", "1")
    facts = evaluated(run, tmp_path, "--features", str(nets / "net.pt"), "--split", "train", "--way", "Male,Young")
    assert list(facts["ways"]) == ["Male", "Young"]
    one = use.load(run, "last", "cpu")
    with heldout.training_items(one.gan, one.recipe, CPU) as feed:
        counts = sum(batch.label.sum(0) for batch in heldout.batches(feed, feed.n_items))
    names = one.recipe.labels.split(",")
    for way in ("Male", "Young"):
        assert facts["ways"][way]["real"] == int(counts[names.index(way)])
        assert facts["ways"][way]["generated"] == feed.n_items


def test_the_smaller_domain_is_counted_once(tmp_path_factory, nets, tmp_path):
    """Its feed begins again before the larger one's ends."""
    root = tmp_path_factory.mktemp("domains")
    for folder, n in {"trainA": 4, "trainB": 3, "testA": 3, "testB": 7}.items():
        (root / folder).mkdir()
        for k in range(n):
            pixels = np.random.default_rng(100 * n + k).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{k}.png")
    run = trained(root / "run", "cyclegan", "--data", str(root), "--steps", "1")
    for batch in ("2", "16"):
        facts = evaluated(run, tmp_path, "--features", str(nets / "net.pt"), "--batch", batch)
        ways = {way: (one["generated"], one["real"]) for way, one in facts["ways"].items()}
        assert ways == {"AtoB": (3, 7), "BtoA": (7, 3)}


def test_other_data(facades, nets, tmp_path):
    for folder in ("A/test", "B/test", "A/train", "B/train"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for k in range(3):
            pixels = np.random.default_rng(k).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / folder / f"{k}.png")
    facts = evaluated(facades, tmp_path, "--metrics", "l1", "--data", str(tmp_path / "set"))
    assert facts["ways"]["output"]["real"] == 3
    assert facts["data"]["folder"] == str(tmp_path / "set")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--metrics", "fid,beauty"], "there is no 'beauty'"),
        (["--metrics", ","], "names nothing"),
        (["--metrics", "ssim"], "no target"),
        (["--metrics", "segmentation"], "class maps"),
        (["--metrics", "fid"], "weights of Inception"),
        (["--metrics", "is", "--features", "FLAT"], "gives no logits"),
        (["--features", "hog"], "similar pictures"),
        (["--features", "none.pt"], "no such network"),
        (["--segmenter", "none.pt"], "not class maps"),
        (["--segmenter-size", "40"], "HEIGHTxWIDTH"),
        (["--way", "AtoB"], "no --way is needed"),
        (["-n", "0"], "at least 1"),
        (["-n", "1000000000000"], "at most 10,000,000"),
        (["--batch", "0"], "at least 1"),
        (["--batch", "100000000"], "at most 4,096"),
        (["--network-size", "100000"], "at most 4,096"),
        (["--metrics", "fid", "--features", "MAPS", "--network-size", "64"], "gives 36,864 features of a picture"),
        (["--kid-subset-size", "1"], "at least 2"),
        (["--seed", "-1"], "--seed"),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--checkpoint", "images-7"], "no checkpoint 'images-7'"),
        (["--palette", "/none.txt"], "--palette"),
        (["-o", "/proc/none/e.json"], "cannot write"),
        (["-o", "."], "is a folder"),
    ],
)
def test_mistakes_are_one_line(dcgan, nets, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    before = sorted(path.name for path in dcgan.iterdir())
    flags = [str(nets / f"{flag.lower()}.pt") if flag in ("FLAT", "MAPS") else flag for flag in flags]
    assert main(["evaluate", str(dcgan), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in dcgan.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_a_machine_too_small_is_one_line(dcgan, nets, tmp_path, capsys, monkeypatch):
    def out_of_memory(self, out):
        torch.empty(1 << 60)

    monkeypatch.setattr("pygan.evaluate.scoring.WayScores.add", out_of_memory)
    flags = ["--features", str(nets / "net.pt"), "-o", str(tmp_path / "e.json")]
    assert main(["evaluate", str(dcgan), *flags]) == 2
    assert "this machine has too little memory for this; lower --batch 16" in capsys.readouterr().err
    assert not (tmp_path / "e.json").exists()


def test_one_number_a_picture_is_a_feature(dcgan, nets, tmp_path):
    facts = evaluated(dcgan, tmp_path, "--features", str(nets / "single.pt"), "--metrics", "fid")
    assert value(facts, "fid") >= 0
    assert facts["networks"]["features"]["name"].startswith("single.pt")


def test_too_few_pictures_for_what_was_asked(dcgan, nets, tmp_path, capsys):
    flags = ["evaluate", str(dcgan), "--features", str(nets / "net.pt"), "-n", "1", "-o", str(tmp_path / "e.json")]
    assert main([*flags, "--metrics", "fid"]) == 2
    assert "--metrics fid: at least 2 pictures" in capsys.readouterr().err.splitlines()[-1]
    assert main([*flags[:3], str(nets / "flat.pt"), *flags[4:]]) == 2
    assert "nothing can be measured: at least 2 pictures" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "e.json").exists()
    assert main(flags) == 0  # the Inception score is left
    assert "without FID, KID: at least 2 pictures" in capsys.readouterr().err
    assert set(json.loads((tmp_path / "e.json").read_text())["ways"]["output"]["left_out"]) == {"fid", "kid"}


def test_no_run_and_no_data(tmp_path, capsys, facades, monkeypatch):
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err

    def gone(*args):
        raise UserError("the folder is gone")

    monkeypatch.setattr("pygan.gans.pix2pix.batches", gone)
    assert main(["evaluate", str(facades), "--metrics", "l1"]) == 2
    assert "pygan train pix2pix --run" in capsys.readouterr().err


def test_what_cannot_be_had_is_left_out_in_one_line(facades, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    facts = evaluated(facades, tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "without" in line]
    assert len(lines) == 2
    assert "FID, KID, Inception score: " in lines[0]
    assert "LPIPS: " in lines[1]
    assert set(facts["left_out"]) == {"fid", "kid", "is", "lpips"}
    assert set(facts["ways"]["output"]["scores"]) == {"ssim", "psnr", "l1", "gradient_correlation"}


def test_by_default_the_file_lies_in_the_run(facades, capsys):
    assert main(["evaluate", str(facades), "--metrics", "l1"]) == 0
    facts = json.loads((facades / "evaluation.json").read_text())
    out = capsys.readouterr().out
    assert f"{value(facts, 'l1'):.3f}" in out
    assert "L1 (grey levels), lower is better" in out
    (facades / "evaluation.json").unlink()


def test_an_interruption_leaves_what_was_there(facades, tmp_path, monkeypatch, capsys):
    out = tmp_path / "e.json"
    out.write_text("before")

    def interrupted(self, out):
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring.WayScores, "add", interrupted)
    assert main(["evaluate", str(facades), "--metrics", "l1", "-o", str(out)]) == 130
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["e.json"]
    assert "no evaluation was written" in capsys.readouterr().err


def test_a_network_that_gives_nan_is_named(dcgan, tmp_path, capsys):
    class Nan(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)) * float("nan")

    torch.jit.script(Nan()).save(str(tmp_path / "nan.pt"))
    assert main(["evaluate", str(dcgan), "--features", str(tmp_path / "nan.pt"), "-o", str(tmp_path / "e.json")]) == 2
    assert "nan.pt" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "e.json").exists()


def test_inception_is_the_default(dcgan, tmp_path, monkeypatch, capsys):
    """Asked for by nobody, it is loaded from the library's cache and measures all three."""

    def load(file, device):
        assert file is None

        def compute(images):
            return images.mean(dim=(2, 3)), images.mean(dim=(2, 3))

        return features.Features("Inception", 3, compute, {"kind": "Inception"}, has_logits=True)

    monkeypatch.setattr(inception, "load", load)
    facts = evaluated(dcgan, tmp_path)
    assert facts["networks"]["features"]["name"] == facts["networks"]["logits"]["name"] == "Inception"
    assert set(facts["ways"]["output"]["scores"]) == {"fid", "kid", "is"}
    assert "FID, lower is better" in capsys.readouterr().out


def test_logits_of_another_network_and_without_the_background(dcgan, nets, tmp_path):
    flags = ("--features", str(nets / "flat.pt"), "--logits", str(nets / "net.pt"), "-n", "12")
    whole, cut = evaluated(dcgan, tmp_path, *flags), evaluated(dcgan, tmp_path, *flags, "--drop-first-class")
    assert whole["networks"]["logits"]["name"].startswith("net.pt")
    assert whole["networks"]["features"]["name"].startswith("flat.pt")
    assert value(whole, "is") != value(cut, "is")


def test_help_needs_no_torch():
    code = (
        "import argparse, sys; from pygan import evaluate; evaluate.add_arguments(argparse.ArgumentParser()); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def tiny(name):
    gan = gans.load(name)
    recipe = gans.phases(gan, gan.Recipe(**{**gan.PRESETS["tiny"], "data_images": 40}))[0]
    feed = gan.batches(recipe, "held-out", CPU)
    return gan, gan.resolve(recipe, feed.facts), feed


@pytest.mark.parametrize("name", gans.names())
def test_every_gan_can_be_judged_in_training(name, nets):
    """The same numbers whatever was drawn before, and nothing is drawn."""
    gan, recipe, feed = tiny(name)
    state = gan.build(recipe, "cpu")
    seen = features.load(str(nets / "net.pt"), "cpu")
    before = {key: tensor.clone() for key, tensor in state.nets["G"].state_dict().items()}
    with feed:
        torch.manual_seed(1)
        first = evaluate.judge(gan, recipe, state.G, feed, ["fid", "kid", "is"], features=seen, most=4)
        drawn = torch.rand(1)
        second = evaluate.judge(gan, recipe, state.G, feed, ["fid", "kid", "is"], features=seen, most=4)
        torch.manual_seed(1)
        assert torch.equal(drawn, torch.rand(1))
    assert first == second
    assert set(first) == {"fid", "kid", "is"}
    assert all(np.isfinite(number) for number in first.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in state.nets["G"].state_dict().items())


def test_judging_agrees_with_evaluate(dcgan, nets, tmp_path):
    facts = evaluated(dcgan, tmp_path, "--features", str(nets / "net.pt"), "--batch", "4")
    one, feed = feed_of(dcgan)
    with feed:
        found = evaluate.judge(
            one.gan, one.recipe, one.net, feed, ["fid"], features=features.load(str(nets / "net.pt"), "cpu"), most=99
        )
    assert found["fid"] == pytest.approx(value(facts, "fid"))


def test_a_run_kept_by_a_network_ends_with_its_table(nets, tmp_path, capsys):
    flags = ["--steps", "2", "--data-images", "8", "--holdout", "0.5", "--best-by", "kid"]
    run = trained(tmp_path / "run", "pix2pix", *flags, "--eval-features", str(nets / "net.pt"))
    shown = capsys.readouterr().out
    assert "best by kid" in shown
    baseline = next(line for line in shown.splitlines() if "mean image" in line)
    assert baseline.split("\u2502")[-2].strip() == "-"  # baselines paint nothing that the network could look at
    assert "kid" in json.loads((run / "scores.json").read_text())["scores"]["pix2pix (this run)"]


def test_judging_pairs(facades, nets):
    one, feed = feed_of(facades)
    lpips = features.lpips(str(nets / "flat.pt"), "cpu")
    with feed:
        found = evaluate.judge(one.gan, one.recipe, one.net, feed, ["lpips", "l1"], lpips=lpips, most=3)
        batch = next(heldout.batches(feed, 1))
        first = evaluate.judge(one.gan, one.recipe, one.net, feed, ["l1"], most=1)
    assert set(found) == {"lpips", "l1"}
    assert first["l1"] == pytest.approx(float(metrics.l1(one.translate(batch.A), batch.B)) * 127.5, rel=1e-5)


def test_what_cannot_be_judged(dcgan, nets):
    one, feed = feed_of(dcgan)
    flat, hog = features.load(str(nets / "flat.pt"), "cpu"), features.load("hog", "cpu")
    with feed:
        for names, tools, error, message in (
            (["beauty"], {}, ValueError, "beauty"),
            (["fid"], {}, ValueError, "needs features"),
            (["lpips"], {}, ValueError, "needs its network"),
            (["fid"], {"features": hog}, UserError, "similar pictures"),
            (["is"], {"features": flat}, UserError, "logits"),
            (["ssim"], {}, UserError, "no target"),
        ):
            with pytest.raises(error, match=message):
                evaluate.judge(one.gan, one.recipe, one.net, feed, names, most=4, **tools)
        with pytest.raises(UserError, match="at least 2 pictures"):
            evaluate.judge(one.gan, one.recipe, one.net, feed, ["fid"], features=flat, most=1)


def test_a_plan_of_noise_goes_on_after_the_last_picture(dcgan):
    one, feed = feed_of(dcgan)
    with feed, torch.no_grad():
        todo = pairs.plan(one.gan, one.recipe, one.net, [feed], "", number=11)
        outs = list(pairs.batches(one.gan, one.recipe, one.net, [feed], "", todo, seed=0))
    assert todo.from_noise
    assert sum(len(out.fake) for out in outs) == todo.fakes == todo.length == 11
    assert sum(len(out.real) for out in outs) == feed.n_items == 4
    assert len(torch.cat([out.fake for out in outs]).flatten(1).unique(dim=0)) == 11
