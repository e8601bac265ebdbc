"""Every disease, made on purpose by real steps, is found with its number; what is healthy stays silent."""

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
import torch

from pygan import gans, heldout
from pygan.diagnosis import Diagnosis, replay
from pygan.diagnosis.detectors import DETECTORS
from pygan.diagnosis.of_discriminator import optimum
from pygan.diagnosis.rows import WINDOW, Case
from pygan.errors import UserError
from pygan.vitals import Vitals

RECORDED = json.loads((Path(__file__).parent / "recorded_rows.json").read_text())
# Steps from row to row. A test takes the last one of them only: its nets do not get much further in between.
SPACING = 20


class Patient:
    """A training of a tiny preset whose rows are watched."""

    def __init__(self, name, **fields):
        self.gan = gans.load(name)
        recipe = self.gan.Recipe(**{**self.gan.PRESETS["tiny"], **fields})
        with self.gan.batches(recipe, "train", torch.device("cpu")) as feed:
            self.recipe = self.gan.resolve(recipe, feed.facts)
            self.batches = [feed.get(i * self.recipe.batch) for i in range(feed.n_items // self.recipe.batch)]
        self.state = self.gan.build(self.recipe, "cpu")
        self.diagnosis = Diagnosis(dataclasses.asdict(self.recipe), name)
        self.vitals, self.rows, self.findings = Vitals(), [], []

    def train(self, rows, lr=None):
        """Rows, one step each; lr: {net: learning rate}."""
        for name, value in (lr or {}).items():
            self.state.opts[name].set_lr_(value)
        for _ in range(rows):
            i = len(self.rows) + 1
            logs = self.gan.step(self.state, self.recipe, self.batches[i % len(self.batches)])
            logs = {key: float(value) for key, value in (logs | self.vitals.measure(self.state)).items()}
            self.see({"images": SPACING * self.recipe.batch * i, "steps": SPACING * i, **logs})
        return self

    def see(self, row):
        self.rows.append(row)
        self.findings += self.diagnosis.see(row)

    def plant(self, change):
        """Change weights by hand: change(state)."""
        with torch.no_grad():
            change(self.state)
        self.state.refresh_()
        return self

    @property
    def names(self):
        return [finding.name for finding in self.findings]

    def finding(self, name):
        """The one finding of that name; its two lines are lines."""
        (found,) = [one for one in self.findings if one.name == name]
        assert "\n" not in found.line + found.advice
        assert found.advice
        assert f"since step {found.since_steps}" in found.line
        assert found.since_steps < found.steps <= self.rows[-1]["steps"]
        assert found.since_images * found.steps == pytest.approx(found.since_steps * found.images)
        return found


def zero(*layers):
    for layer in layers:
        for param in layer.parameters():
            param.zero_()


# ---- The discriminator


@pytest.mark.parametrize(("mode", "level"), [("vanilla", math.log(2)), ("lsgan", 0.5), ("softplus", 2 * math.log(2))])
def test_a_discriminator_without_weights_is_constant(mode, level):
    """It says 0 of everything, or after a while the mean of its labels."""
    patient = Patient("pix2pix", gan_mode=mode).plant(lambda state: zero(state.D.blocks, state.D.head))
    patient.train(30, lr={"D": 0.0})
    found = patient.finding("constant_discriminator")
    assert found.evidence == pytest.approx(level, abs=1e-3)
    assert found.since_steps == SPACING
    assert ("the optimum" in found.line) == (mode != "lsgan")  # whose best answer is 1/2, not 0
    assert "--lr" in found.advice


def test_the_fixed_point_of_the_keras_labels():
    """Spec 3.9: a D whose features are dead learns the answer 1/4; no logits are logged, G's loss is ln 4."""
    keras = {"discriminator": "keras_two_branch", "d_batches": "one_class", "d_patch": 16, "gan_mode": "softplus"}
    patient = Patient("pix2pix", label_bug_compat=True, **keras)
    *features, answer = (layer for layer in patient.state.D.modules() if isinstance(layer, torch.nn.Linear))
    patient.plant(lambda state: zero(*features, answer)).train(60, lr={"D": 0.01})
    patient.train(30, lr={"D": 2e-3})
    found = patient.finding("constant_discriminator")
    assert found.evidence == pytest.approx(math.log(4), abs=0.02)
    assert "1.3863" in found.line
    assert "0.5623" in found.line
    assert "--label-bug-compat" in found.advice


def test_optima_of_specification_and_labels():
    bug = optimum("softplus", Case({"label_bug_compat": True, "d_batches": "one_class"}, ""))
    assert bug.judged == pytest.approx(0.562335, abs=1e-6)
    assert bug.fooled == pytest.approx(1.386294, abs=1e-6)
    assert optimum("vanilla", Case({}, "")) == pytest.approx((0.0, math.log(2), math.log(2)))
    assert optimum("softplus", Case({}, "")) == pytest.approx((0.0, 2 * math.log(2), math.log(2)))
    assert optimum("lsgan", Case({}, "")) == pytest.approx((0.5, 0.25, 0.25))
    assert optimum("vanilla", Case({"d_loss_scale": 1.0}, "")).judged == pytest.approx(2 * math.log(2))
    smooth = optimum("vanilla", Case({"label_smoothing": True}, ""))
    assert -0.2 < smooth.logit < 0
    assert optimum("vanilla", Case({"label_flip": 0.3}, "")).logit == pytest.approx(0.0)
    assert optimum("wgangp", Case({}, "")) is None
    assert optimum("vanilla", Case({"label_flip": -1.0, "label_bug_compat": True}, "")) is None  # a damaged recipe


def test_a_discriminator_that_wins_is_certain():
    """G stands still while D learns; then D is as sure as many more steps would make it."""
    patient = Patient("pix2pix").train(50, lr={"G": 0.0, "D": 0.02})
    patient.plant(lambda state: state.D.head.weight.mul_(3.0)).train(30)
    found = patient.finding("certain_discriminator")
    assert found.evidence < -6
    assert "--n-layers-d" in found.advice


LSGAN, SOFTPLUS, EBGAN = {"gan_mode": "lsgan"}, {"gan_mode": "softplus"}, {"margin": 0.08}
CRITIC = {"logit/real": 1.0, "logit/fake": 1.0}
CYCLE = {"loss/G": 3.0, "loss/G_A": 0.5, "loss/G_B": 0.5}


@pytest.mark.parametrize(
    ("recipe", "always", "healthy", "sick", "name"),
    [
        (LSGAN, {}, {"logit/real": 0.8, "logit/fake": 0.2}, {"logit/real": 0.99, "logit/fake": 0.01}, "certain"),
        (EBGAN, {}, {"energy/real": 0.05, "energy/fake": 0.07}, {"energy/real": 0.01, "energy/fake": 0.09}, "certain"),
        (SOFTPLUS, {}, {"loss/D": 0.3, "loss/G_gan": 2.0}, {"loss/D": 1e-4, "loss/G_gan": 9.0}, "certain"),
        ({}, CRITIC, {"loss/gp": 0.02}, {"loss/gp": 1.0}, "constant"),
        ({}, {"energy/real": 0.1}, {"k": 0.05}, {"k": 0.0}, "stuck_balance"),
        ({}, {"energy/real": 0.1}, {"k": 0.05}, {"k": 1.0}, "stuck_balance"),
        ({}, {"loss/G": 1.0, "vital/colour_input": -0.65}, {"vital/colour_chance": -0.3}, {"vital/colour_chance": 0.1},
         "inverted"),
        ({}, {"loss/G": 0.3}, {"vital/grad_D": 0.1}, {"vital/grad_D": 200.0}, "exploding"),
        ({}, {"loss/G": 0.3}, {"vital/grad_G_first_to_last": 0.1}, {"vital/grad_G_first_to_last": 5e-5}, "vanishing"),
        (LSGAN, CYCLE, {"loss/cycle_A": 4.0}, {"loss/cycle_A": 400.0}, "imbalance"),
    ],
)  # fmt: skip
def test_signs_that_tiny_trainings_do_not_show(recipe, always, healthy, sick, name):
    """Rows by hand: silent as long as they are healthy, one finding once they are sick, since that step."""
    diagnosis, findings = Diagnosis(recipe, "x"), []
    for i in range(1, 161):
        values = healthy if i <= 60 else sick
        found = diagnosis.see({"images": 40 * i, "steps": 20 * i, **always, **values})
        assert not (found and i <= 60)
        findings += found
    (finding,) = findings
    assert name in finding.name
    assert 20 * 55 <= finding.since_steps <= 20 * 71


def test_an_energy_based_gan_has_no_constant_or_certain_logits():
    diagnosis = Diagnosis({}, "began")
    row = {"loss/G": 0.1, "loss/D": 0.1, "energy/real": 0.1, "energy/fake": 0.07, "k": 0.05, "M": 0.1}
    assert not [found for i in range(100) for found in diagnosis.see({"images": i, "steps": 30 * i, **row})]


# ---- The generator


@pytest.mark.parametrize("name", ["dcgan", "began"])
def test_a_generator_that_ignores_its_noise_has_collapsed(name):
    def deaf(state):
        first = state.G.first.conv if name == "dcgan" else state.G.dense.linear
        first.weight.zero_()

    patient = Patient(name, batch=8, data_images=16).plant(deaf).train(50, lr={"G": 0.0})
    found = patient.finding("generator_collapse")
    assert found.evidence < 0.01
    assert "whatever the noise" in found.line


def test_a_generator_that_ignores_its_input_has_collapsed_at_batch_1():
    """Diversity is seen over rows. Its pictures are flat, too."""
    patient = Patient("pix2pix", batch=1).plant(lambda state: zero(state.G.head)).train(60, lr={"G": 0.0})
    assert patient.finding("generator_collapse").evidence < 0.01
    assert "whatever the input" in patient.finding("generator_collapse").line
    blank = patient.finding("blank_pictures")
    assert blank.evidence == pytest.approx(0.0, abs=0.1)
    assert "--lambda-l1" in blank.advice


def test_a_saturated_generator_has_no_gradient():
    """Healthy first: the finding says what the gradient was, and when it went."""
    patient = Patient("pix2pix").train(45)
    assert not {"vanishing_gradients", "saturated_pictures"} & set(patient.names)
    patient.plant(lambda state: state.G.head.bias.fill_(60.0)).train(30)
    vanished = patient.finding("vanishing_gradients")
    assert vanished.evidence < 1e-5
    assert "it was" in vanished.line
    assert SPACING * 45 <= vanished.since_steps <= SPACING * 56  # Adam forgets half of it in a step
    saturated = patient.finding("saturated_pictures")
    assert saturated.evidence == pytest.approx(1.0)


def test_gradients_that_explode():
    patient = Patient("pix2pix", gan_mode="lsgan").train(40)
    patient.plant(lambda state: state.D.head.weight.mul_(1e5)).train(25, lr={"D": 0.0, "G": 0.0})
    assert patient.finding("exploding_gradients").evidence > 10


# ---- Pictures


def test_a_deconvolution_with_uneven_taps_paints_a_checkerboard():
    def plant(state):
        taps = 1.0 - 2.0 * ((torch.arange(4)[:, None] + torch.arange(4)[None]) % 2)
        state.G.head.weight.copy_(state.G.head.weight.abs() * 10 * taps)

    patient = Patient("pix2pix", upsample="deconv").plant(plant).train(50, lr={"G": 0.0})
    found = patient.finding("checkerboard")
    assert found.evidence > 6
    assert "period of 2 pixels" in found.line
    assert "--upsample nearest" in found.advice


def test_negated_colours_are_inverted():
    """G learns the targets; then its last layer is turned over."""
    patient = Patient("pix2pix", dropout_p=0.0).train(60, lr={"G": 5e-3})
    assert "inverted_colours" not in patient.names
    assert patient.rows[-1]["vital/colour"] > 0.4
    turned = patient.rows[-1]["steps"]
    patient.plant(lambda state: (state.G.head.weight.neg_(), state.G.head.bias.neg_())).train(50, lr={"G": 0.0})
    found = patient.finding("inverted_colours")
    assert found.evidence < -0.3
    assert found.since_steps == pytest.approx(turned, abs=SPACING * 10)


# ---- Balance and memory


def test_a_loss_that_drowns_the_other():
    patient = Patient("pix2pix", lambda_l1=1e5).train(50)
    found = patient.finding("loss_imbalance")
    assert found.evidence > 100
    assert "--lambda-l1 (now 100000)" in found.advice
    off = Patient("pix2pix", lambda_gan=0.0, lambda_l1=1e5).train(50)
    assert "loss_imbalance" not in off.names  # switched off, not drowned


def test_four_pictures_are_learned_by_heart():
    patient = Patient("pix2pix", data_images=4, batch=2, lambda_gan=0.0, dropout_p=0.0, test_dropout=False)
    with patient.gan.batches(patient.recipe, "held-out", "cpu") as unseen:
        held_out = list(heldout.batches(unseen, 8))
    for _ in range(10):
        patient.train(25, lr={"G": 4e-3})
        scores = {
            f"{split}/l1": sum(
                float(patient.gan.measure(patient.state.nets, patient.recipe, batch)["l1"]) for batch in items
            ) / len(items)
            for split, items in (("held_out", held_out), ("train", patient.batches))
        }  # fmt: skip
        patient.see({key: patient.rows[-1][key] for key in ("images", "steps")} | scores)
    found = patient.finding("memorisation")
    assert found.evidence > 1.3
    assert "checkpoints/best" in found.advice
    assert "l1" in found.line


def evaluations(held_out, train):
    """Findings of a run with these scores, ten rows of steps between two evaluations."""
    diagnosis, found, i = Diagnosis({}, "x"), [], 0
    for unseen, seen in zip(held_out, train, strict=True):
        for _ in range(10):
            i += 1
            found += diagnosis.see({"images": i, "steps": i, "loss/G": 1.0, "loss/D": 0.5})
        found += diagnosis.see({"images": i, "steps": i, "held_out/l1": unseen, "train/l1": seen})
    return found


def test_memorisation_is_a_rise_while_training_pictures_get_better():
    (found,) = evaluations([30, 25, 22, 21, 22, 23, 24, 25, 26], [30, 24, 20, 17, 14, 12, 10, 8, 7])
    assert found.name == "memorisation"
    assert found.since_steps == 40  # held-out was best there
    assert not evaluations([30, 25, 22, 21, 20, 19, 18, 17, 16], [30, 24, 20, 17, 14, 12, 10, 8, 7])  # a gap alone
    assert not evaluations([30, 25, 22, 21, 23, 23, 24, 24, 25], [30, 25, 22, 21, 23, 23, 24, 24, 25])  # both get worse
    assert not evaluations(
        [30, 25, 22, 21, 25, 28, 30, 30, 31], [30, 24, 21, 20, 20, 20, 20, 20, 20]
    )  # nothing learned
    assert not evaluations([30, 21, 25, 28], [30, 20, 10, 5])  # too few to tell


def test_memorisation_is_standing_still_while_training_pictures_get_much_better():
    held_out = [36.7, 36.5, 36.4, 36.5, 36.2, 36.0, 35.8, 35.9]  # a U-Net on 80 pictures of 64 pixels
    train = [27.4, 22.8, 20.4, 18.1, 16.2, 15.4, 14.7, 14.5]
    (found,) = evaluations(held_out, train)
    assert found.name == "memorisation"
    assert found.since_steps == 10
    assert "27.4 to " in found.line
    assert "36.7 to 3" in found.line
    assert not evaluations(held_out, [value + 10 for value in train])  # the gap is small
    assert not evaluations(held_out, [21.4, 21, 20, 19, 18, 17.5, 17, 16.5])  # not much better
    assert not evaluations([value - 2.5 * i for i, value in enumerate(held_out)], train)  # they do get better


def test_memorisation_is_to_be_far_better_on_training_pictures():
    """Four pictures for 2500 steps: held-out ones get a little better all the time."""
    (found,) = evaluations([39, 37.3, 37.0, 36.5, 36.1, 35.6, 35.3, 34.5], [25, 14, 9.4, 7, 5, 4, 3.3, 3])
    assert found.name == "memorisation"
    assert found.since_steps == 40
    assert found.evidence > 4


# ---- What is healthy


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "began"])
def test_recorded_demo_trainings_are_silent(name):
    assert findings_of(RECORDED[name]) == []


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan", "dcgan", "ebgan", "stargan"])
def test_what_trainings_are_like_later_is_healthy_for_long(name):
    """The second half of each, again and again: no span of steps makes a disease of it."""
    recorded = RECORDED[name]
    rows = list(rows_of(recorded))
    rows = rows[len(rows) // 2 :] * 3
    diagnosis = Diagnosis(recorded["recipe"], name)
    for i, row in enumerate(rows):
        assert diagnosis.see(row | {"images": 50 * i, "steps": 50 * i, "epoch": 1}) == []


def test_the_began_demo_collapses():
    (found,) = findings_of(RECORDED["began"])
    assert found.name == "generator_collapse"
    assert 0.05 < found.evidence < 0.2
    assert "--gamma" in found.advice


def findings_of(recorded):
    diagnosis = Diagnosis(recorded["recipe"], recorded["gan"])
    return [found for row in rows_of(recorded) for found in diagnosis.see(row)]


def rows_of(recorded):
    columns = recorded["columns"]
    for values in zip(*columns.values(), strict=True):
        yield {key: value for key, value in zip(columns, values, strict=True) if value is not None}


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan", "dcgan", "stackgan"])
def test_a_tiny_run_is_too_short_to_be_ill(name):
    gan = gans.load(name)
    recipe = gan.Recipe(**gan.PRESETS["tiny"])
    with gan.batches(gans.phases(gan, recipe)[0], "train", torch.device("cpu")) as feed:
        recipe = gans.phases(gan, gan.resolve(recipe, feed.facts))[0]
        state, vitals, diagnosis = gan.build(recipe, "cpu"), Vitals(), Diagnosis(dataclasses.asdict(recipe), name)
        for i in range(1, 17):
            logs = gan.step(state, recipe, feed.get(i * gans.images_per_step(gan, recipe)))
            row = {key: float(value) for key, value in (logs | vitals.measure(state)).items()}
            assert diagnosis.see({"images": i, "steps": i, **row}) == []


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_disease(seed):
    """Every value of a healthy run, at random between its 10th and its 90th percentile, with one mad row in six."""
    chance = random.Random(seed)
    recorded = RECORDED["pix2pix"]
    columns = {key: sorted(v for v in values if v is not None) for key, values in recorded["columns"].items()}
    diagnosis = Diagnosis(recorded["recipe"], "pix2pix")
    for i in range(1, 400):
        row = {"images": i, "steps": 20 * i, "epoch": 1 + i // 100}
        for key, values in columns.items():
            if key not in row:
                value = values[int(len(values) * chance.uniform(0.1, 0.9))]
                row[key] = value * (chance.choice((-1e4, 0.0, 1e4)) if i % 6 == 0 else 1.0)
        assert diagnosis.see(row) == []


# ---- When it is said


def constant(steps, **more):
    return {"images": 2 * steps, "steps": steps, "loss/D": 0.693147, "logit/real": 0.0, "logit/fake": 0.0, **more}


def lively(steps):
    return constant(steps) | {"logit/real": math.sin(steps), "logit/fake": -math.sin(steps)}


def test_a_finding_is_said_once():
    diagnosis = Diagnosis({"gan_mode": "vanilla"}, "x")
    said = [found for i in range(1000) for found in diagnosis.see(constant(10 * i))]
    assert len(said) == 1
    assert said[0].since_steps == 0


@pytest.mark.parametrize("healthy_rows", [0, 15])
def test_a_median_tells_since_when(healthy_rows):
    """Also of what was wrong from the first row on: `--lambda-l1 1e6`."""
    diagnosis, said = Diagnosis({"gan_mode": "vanilla", "lambda_l1": 1e6}, "x"), []
    for i in range(1, 60):
        many = 10.0 if i <= healthy_rows else 1e5
        said += diagnosis.see({"images": i, "steps": 10 * i, "loss/G": 1.0, "loss/G_gan": 1.0, "loss/G_l1": many})
    (found,) = said
    assert abs(found.since_steps - 10 * (healthy_rows + 1)) <= (10 if healthy_rows else 0)


def test_it_is_said_again_only_if_it_was_gone_for_long():
    diagnosis = Diagnosis({"gan_mode": "vanilla"}, "x")
    said, i = [], 0
    for rows, row in ((50, constant), (30, lively), (50, constant), (200, lively), (50, constant)):
        for _ in range(rows):
            i += 1
            said += diagnosis.see(row(10 * i))
    assert len(said) == 2
    assert said[1].since_steps > 10 * 330


def test_it_is_said_again_if_it_got_much_worse():
    diagnosis, said = Diagnosis({"gan_mode": "vanilla", "lambda_l1": 100.0}, "x"), []
    for i in range(600):
        many = 150.0 if i < 200 else 400.0 if i < 400 else 1500.0
        said += diagnosis.see({"images": i, "steps": 10 * i, "loss/G": 1.0, "loss/G_gan": 1.0, "loss/G_l1": many})
    assert [found.evidence for found in said] == [150.0, pytest.approx(950.0)]  # a median on its way to 1500


def test_one_good_row_in_three_is_no_disease():
    diagnosis = Diagnosis({"gan_mode": "vanilla"}, "x")
    sure = {"logit/real": 9.0, "logit/fake": -9.0}
    assert not [
        f for i in range(600) for f in diagnosis.see(constant(10 * i) | (sure if i % 3 else {"logit/real": 1.0}))
    ]
    diagnosis = Diagnosis({"gan_mode": "vanilla"}, "x")
    assert [f.name for i in range(600) for f in diagnosis.see(constant(10 * i) | sure)] == ["certain_discriminator"]


def test_another_phase_begins_from_nothing():
    """Other losses, or epochs that count from 1 again: what the phase before was like says nothing of this one."""
    for second in ({"loss/kl": 0.1}, {"epoch": 1}):
        diagnosis = Diagnosis({}, "x")
        for i in range(100):
            assert not diagnosis.see({"images": i, "steps": i, "epoch": 5, "loss/G": 1.0, "vital/grad_G": 1.0})
        row = {"loss/G": 1.0, "vital/grad_G": 1e-4, "epoch": 5} | second
        assert not [f for i in range(100, 300) for f in diagnosis.see({"images": i, "steps": i, **row})]


@pytest.mark.parametrize(
    "row",
    [{}, {"images": 3}, {"images": "3", "steps": 4}, {"images": True, "steps": 1}, {"images": math.nan, "steps": 1},
     {"images": 1, "steps": 1, "loss/G": math.inf, "logit/real": None, "logit/fake": [1], "k": 10**400},
     {"images": 10**400, "steps": 1}, {"images": 1, "steps": 1, "held_out/l1": 3.0}],
)  # fmt: skip
def test_odd_rows_are_passed_over(row):
    assert Diagnosis({"gan_mode": 5, "label_flip": "x"}, "x").see(row) == []


@pytest.mark.parametrize("seed", range(10))
def test_no_number_stops_a_training(seed):
    """Rows of anything, in recipes of anything: never an exception, and every finding is two lines."""
    chance = random.Random(seed)
    ends = ("", "_A", "_real", "_first_to_last")
    kinds = ("loss/G", "loss/G_gan", "loss/G_l1", "loss/D", "loss/gp", "logit/real", "logit/fake", "energy/real", "k")
    kinds += ("energy/fake", "held_out/x", "train/x", "vital/diversity_fake", "vital/diversity_real", "vital/contrast")
    kinds += ("vital/checkerboard_2", "vital/colour", "vital/colour_input", "vital/grad_G", "vital/saturation", "epoch")
    keys = [kind + end for kind in kinds for end in ends]
    odd = (0.0, -0.0, 1.0, 5e-324, 1e-30, 1e99, -1e99, 1e308, math.nan, math.inf, 10**400, None, "x", [], True)
    for _ in range(8):
        fields = ("gan_mode", "lambda_gan", "lambda_l1", "margin", "gamma", "label_flip", "d_loss_scale", "lr", "form")
        modes = ("vanilla", "lsgan", "softplus", "wgangp", "auto", 3, None, [])
        recipe = {name: chance.choice(modes if name == "gan_mode" else odd) for name in fields}
        diagnosis, said = Diagnosis(recipe, "x"), []
        row = {key: chance.choice(odd) for key in chance.sample(keys, 30)}
        for i in range(60):
            if i % 40 == 0:
                row |= {key: chance.choice(odd) for key in chance.sample(keys, 3)}
            said += diagnosis.see({"images": i, "steps": 30 * i, **row})
        assert all("\n" not in found.line + found.advice and found.advice for found in said)
        json.dumps([found.to_json() for found in said], allow_nan=False)


def test_a_discriminator_that_nobody_listens_to_is_not_judged():
    """Without weight in G's loss, or while it is trained alone before G is."""
    sure = {"logit/real": 20.0, "logit/fake": -20.0, "loss/D": 0.0}
    for recipe, row in (({"lambda_gan": 0.0}, {"loss/G": 3.0}), ({}, {"loss/G": 0.0})):
        for values in (sure, constant(0)):
            diagnosis = Diagnosis({"gan_mode": "softplus", **recipe}, "x")
            assert not [f for i in range(99) for f in diagnosis.see(values | row | {"images": i, "steps": 30 * i})]


def test_advice_names_only_flags_that_the_recipe_has():
    """For every GAN, whatever the disease."""
    for name in gans.names():
        gan = gans.load(name)
        recipe = dataclasses.asdict(gan.Recipe(**gan.PRESETS["tiny"]))
        flags = {"--" + field.replace("_", "-") for field in recipe}
        said = []
        for row in sick_rows():
            diagnosis = Diagnosis(recipe, name)
            said += [f for i in range(1, 100) for f in diagnosis.see({"images": i, "steps": 20 * i, **row})]
        assert {"generator_collapse", "blank_pictures", "vanishing_gradients"} <= {found.name for found in said}
        for found in said:
            words = {word.strip(",;:.") for word in found.advice.split() if word.startswith("--")}
            assert words <= flags, (name, found)
            assert found.advice.strip(" ;:")
            assert "{" not in found.advice + found.line


def sick_rows():
    pictures = {"loss/G": 1.0, "vital/diversity_fake": 0.1, "vital/diversity_real": 50.0, "vital/contrast": 0.1}
    pictures |= {
        "vital/contrast_real": 40.0,
        "vital/saturation": 0.9,
        "vital/saturation_real": 0.0,
        "vital/colour": -0.9,
    }
    pictures |= {"vital/checkerboard_2": 30.0, "vital/checkerboard_2_real": 3.0, "vital/grad_G": 0.0}
    pictures |= {"vital/grad_G_first_to_last": 0.0}
    yield pictures
    yield {"loss/D": 0.7, "logit/real": 0.0, "logit/fake": 0.0}
    yield {"loss/D": 0.0, "logit/real": 20.0, "logit/fake": -20.0}
    yield {"loss/D": 0.0, "energy/real": 0.0, "energy/fake": 20.0}
    yield {"loss/D": 0.0, "k": 0.0, "energy/real": 1.0, "energy/fake": 1.0}
    yield {"loss/G_gan": 1.0, "loss/G_l1": 1e4, "loss/cycle_A": 1e4, "loss/G_self": 1e4}


# ---- Replay


def write(path, rows, recipe=None, findings=()):
    path.mkdir()
    facts = {"gan": "pix2pix", "preset": "tiny", "asked": {}, "recipe": recipe or {"gan_mode": "vanilla"}}
    (path / "recipe.json").write_text(json.dumps(facts))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if findings:
        (path / "findings.jsonl").write_text("".join(json.dumps(finding) + "\n" for finding in findings))
    return path


def test_a_replay_finds_what_was_found_live(tmp_path):
    recorded = RECORDED["began"]
    run = write(tmp_path / "run", list(rows_of(recorded)), recorded["recipe"])
    assert replay(run) == findings_of(recorded)


def test_torn_lines_and_rows_that_were_written_again(tmp_path):
    """A run that was taken up at a checkpoint: what came after it in the file is not part of the run."""
    rows = [constant(10 * i) for i in range(1, 60)]
    run = write(tmp_path / "run", [*[lively(10 * i) for i in range(1, 5000, 50)], *rows])
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text[:100] + '{"images": 3, "st\n' + text[100:] + '{"images": 1')
    (found,) = replay(run)
    assert found.name == "constant_discriminator"
    sick = [constant(10 * i) for i in range(1, 90)]
    assert replay(write(tmp_path / "again", [*sick, *[lively(10 * i) for i in range(1, 90)]])) == []


def test_divergence_is_told_as_it_was_said(tmp_path):
    said = {"name": "diverged", "images": 120, "steps": 60, "since_images": 118, "since_steps": 59}
    said |= {"line": "loss/G became NaN at step 59, first seen in module G.head", "advice": "lower --lr"}
    said["evidence"] = math.nan
    run = write(tmp_path / "run", [lively(i) for i in range(1, 50)], findings=[{"images": 1}, said])
    (found,) = replay(run)
    assert found.line == said["line"]
    assert found.to_json() == said | {"evidence": None}
    # The run went on after all: what was said belongs to rows that are no more.
    later = write(tmp_path / "later", [lively(i) for i in range(1, 90)], findings=[said])
    assert replay(later) == []


def test_without_a_word_of_it_rows_tell_of_divergence(tmp_path):
    rows = [lively(i) for i in range(1, 10)] + [lively(10) | {"loss/G": math.nan}]
    (found,) = replay(write(tmp_path / "run", rows))
    assert (found.name, found.steps) == ("diverged", 10)
    assert "loss/G" in found.line


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"not a run directory: it has no recipe\.json"):
        replay(tmp_path)


def test_every_detector_is_tested_here():
    """By the name of its disease, in a test above."""
    text = Path(__file__).read_text()
    assert [one.name for one in DETECTORS if text.count(one.name.split("_")[0]) < 2] == []
    assert WINDOW == 10  # rows by hand above count on it
