"""Is D still of use to G? It may say the same of everything, or be so sure that G learns nothing from it."""

from __future__ import annotations

import math
from statistics import fmean
from typing import NamedTuple

from pygan.diagnosis.rows import Case, Rows
from pygan.diagnosis.sign import HEALTHY, Answer, Sign, of

# A D that learns has logits that change from picture to picture: in healthy runs, of batches from 1 to 32, those of
# real pictures spread by 0.1 and more over 10 rows. A constant one has the same in all digits that matter.
_STEADY = 0.02
_STEADY_LOSS = 0.02  # likewise of the adversarial loss of G, where logits are not logged; healthy ones move by 0.1
# A healthy DCGAN of small pictures has mean logits of 4.7 and -3.8 for hundreds of steps; those of a D that has won
# grow to 10 and beyond. At 6 the sigmoid is 0.9975 and D's loss under 0.005.
_CERTAIN_LOGIT = 6.0
_CERTAIN_LSGAN = 0.05  # distance of the mean logit from the label, of which a D that is certain reaches all


def constant_discriminator(rows: Rows, case: Case) -> Answer:
    """D says the same of every picture: the fixed point where its loss is lowest without telling them apart."""
    loss = case.loss(rows)
    if loss in ("energy", "began") or _is_alone(rows, case):
        return None
    ends = rows.endings("logit/real", "logit/fake")
    if not ends:
        return _constant_by_loss(rows, case, loss)
    answer: Answer = None
    for end in ends:
        real, fake = rows.last("logit/real" + end), rows.last("logit/fake" + end)
        if real is None or fake is None:
            continue
        answer = answer or HEALTHY
        if max(*real, *fake) - min(*real, *fake) > _STEADY:
            continue
        if loss == "wgangp" and (rows.typical("loss/gp" + end) or 0.0) < 0.9:  # a flat critic has a penalty of 1
            continue
        key = "loss/D" if rows.now("loss/D" + end) is None else "loss/D" + end
        value = rows.typical(key) or 0.0
        told = f"D{of(end)} says the same of every picture: logits {fmean(real):.3f} on real, {fmean(fake):.3f} on fake"
        return Sign(f"{told}, {key} {value:.4f}{_at_optimum(value, loss, case)}", value, _constant_advice(case))
    return answer


def _constant_by_loss(rows: Rows, case: Case, loss: str) -> Answer:
    """The same for a D that sees one class in each step, and of which no logits are logged."""
    fooled, judged = rows.last("loss/G_gan"), rows.last("loss/D")
    weight = case.number("lambda_gan", 1.0)
    if fooled is None or judged is None or (point := optimum(loss, case)) is None:
        return None
    value = fmean(fooled) / weight
    if (max(fooled) - min(fooled)) / weight > _STEADY_LOSS or abs(value - point.fooled) > _STEADY:
        return HEALTHY
    told = f"D says the same of every picture: loss/G_gan {value:.4f} in every row, where a constant D has "
    return Sign(f"{told}{point.fooled:.4f} (and loss/D {point.judged:.4f})", value, _constant_advice(case))


def _is_alone(rows: Rows, case: Case) -> bool:
    """Does G not learn from D, because that was asked for: without weight, or in a phase that trains D first?"""
    return case.number("lambda_gan", 1.0) == 0.0 or rows.now("loss/G") == 0.0


class Optimum(NamedTuple):
    """What a D that cannot tell real from fake comes to rest at."""

    logit: float
    judged: float  # loss/D
    fooled: float  # the adversarial loss of G, without its weight


def optimum(loss: str, case: Case) -> Optimum | None:
    """The fixed point of a loss under the labels of a recipe: H(1/2) = ln 2 usually, H(1/4) with the Keras labels.

    D's best answer is the mean of its labels; label_bug_compat has (0, 0) for (0, 1), by which that of real pictures
    counts 1/2 (pix2pix recipe, `_targets`). None where the loss has no such point.
    """
    keras = str(case.get("discriminator", "")).startswith("keras")
    real = 0.5 if case.get("label_bug_compat") else 1.0
    if case.get("label_smoothing"):
        real = 0.975 if keras else 0.95
    flip = case.number("label_flip", 0.0)
    real, fake = real + flip * (1.0 - 2.0 * real), flip
    mean = (real + fake) / 2.0
    if not 0.0 < mean < 1.0:
        return None
    halved = loss in ("vanilla", "lsgan")
    scale = case.number("d_loss_scale", 0.5) if halved else 1.0
    if case.get("d_batches") == "one_class" and not halved:
        scale = 0.5  # the mean of rows that have one class each
    if loss == "lsgan":
        return Optimum(mean, scale * ((mean - real) ** 2 + (mean - fake) ** 2), (mean - 1.0) ** 2)
    if loss not in ("vanilla", "softplus"):
        return None

    def entropy(label: float) -> float:
        return -label * math.log(mean) - (1.0 - label) * math.log(1.0 - mean)

    logit = math.log(mean / (1.0 - mean))
    return Optimum(logit, scale * (entropy(real) + entropy(fake)), -math.log(mean))


def _at_optimum(value: float, loss: str, case: Case) -> str:
    point = optimum(loss, case)
    if point is None or abs(value - point.judged) > 0.02 * point.judged:
        return ""
    return f" = the optimum {point.judged:.4f} of one that cannot tell"


def _constant_advice(case: Case) -> str:
    bug = "leave {label_bug_compat} out: that real label is a mistake of the sources"
    return case.advice(
        bug if case.get("label_bug_compat") else "",
        "only the other losses train G now: start anew with a lower {=lr}, or another {=seed}",
        "{=gan_mode}: lsgan keeps a gradient where D errs",
        "check that real pictures are not damaged",
    )


def certain_discriminator(rows: Rows, case: Case) -> Answer:
    """D is always right and sure of it: a saturated loss that teaches G next to nothing."""
    loss = case.loss(rows)
    if loss == "energy":
        return _certain_energy(rows, case)
    if loss not in ("vanilla", "softplus", "lsgan") or _is_alone(rows, case):
        return None  # a critic without labels has no saturation
    answer: Answer = None
    for end in rows.endings("logit/real", "logit/fake"):
        answer = answer or HEALTHY
        real, fake = (rows.now(f"logit/{kind}{end}") for kind in ("real", "fake"))
        if loss == "lsgan":
            sure = real > 1.0 - _CERTAIN_LSGAN and fake < _CERTAIN_LSGAN
            told = f"D{of(end)} is always right: logits {real:.2f} on real (label 1), {fake:.2f} on fake (label 0)"
        else:
            sure = real > _CERTAIN_LOGIT and fake < -_CERTAIN_LOGIT
            told = (
                f"D{of(end)} is always right: it gives real pictures {_sigmoid(real):.4f}, fakes {_sigmoid(fake):.4f} "
                f"(logits {real:.1f}, {fake:.1f})"
            )
        if sure:
            return Sign(told, fake, _certain_advice(case), severity=real - fake)
    return _certain_by_loss(rows, case) if answer is None and loss != "lsgan" else answer


def _certain_by_loss(rows: Rows, case: Case) -> Answer:
    """The same for a D that sees one class in each step, and of which no logits are logged."""
    judged, fooled = rows.last("loss/D"), rows.now("loss/G_gan")
    if judged is None or fooled is None:
        return None
    fooled /= case.number("lambda_gan", 1.0)
    if max(judged) >= 0.005 or fooled < _CERTAIN_LOGIT:
        return HEALTHY
    told = f"D is always right: loss/D {max(judged):.4f} at most, and G's adversarial loss is {fooled:.1f}"
    return Sign(told, fooled, _certain_advice(case), severity=fooled)


def _certain_energy(rows: Rows, case: Case) -> Answer:
    """EBGAN's D: it rebuilds real pictures, and fakes so badly that their hinge is 0 in nearly every row."""
    real, fake, margin = rows.typical("energy/real"), rows.typical("energy/fake"), case.number("margin", 1.0)
    if real is None or fake is None or margin <= 0.0:
        return None
    if fake < margin or real > 0.25 * margin:
        return HEALTHY
    told = (
        f"D is always right: energy {fake:.3f} of fakes is beyond the margin {margin:g}, that of real ones {real:.3f}"
    )
    return Sign(
        told, fake, case.advice("lower {=margin}", "lower {=lr}", "raise G's width {=n}"), severity=fake / margin
    )


def _certain_advice(case: Case) -> str:
    return case.advice(
        "make D's task harder: {label_smoothing}" if not case.get("label_smoothing") else "",
        "a smaller D: fewer {=n_layers_d} or {=ndf}",
        "{=gan_mode}: lsgan or wgangp do not saturate" if case.get("gan_mode") in ("vanilla", "softplus") else "",
        "a larger {=pool_size}",
        "a lower {=lr}",
        "more pictures, {flip}" if not case.get("flip") else "more pictures",
    )


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, x))))
