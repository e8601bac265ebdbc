"""Do the parts of a training keep each other in balance: the terms of G's loss, BEGAN's k, training and held-out?"""

from __future__ import annotations

import math
from statistics import median

from pygan.diagnosis.rows import Case, Rows
from pygan.diagnosis.sign import HEALTHY, Answer, Sign

# BEGAN's balance holds L(G(z)) at gamma L(x) by moving k within [0, 1]. At an end it has nothing left to move.
_K_END = 1e-6


def stuck_balance(rows: Rows, case: Case) -> Answer:
    """BEGAN's k rests at an end of its range: one of the nets has got away from the other."""
    k = rows.last("k")
    if k is None:
        return None
    real, fake = rows.typical("energy/real"), rows.typical("energy/fake")
    numbers = ""
    if real is not None and fake is not None:
        numbers = f": L(G(z)) {fake:.3f}, gamma L(x) {case.number('gamma', 0.5) * real:.3f}"
    if min(k) >= 1.0 - _K_END:
        advice = case.advice("G is ahead: a lower {=gamma}", "a larger D", "a lower {=lr}")
        return Sign(f"k rests at {k[-1]:.3f}, its upper end{numbers}", k[-1], advice)
    if max(k) <= _K_END:
        advice = case.advice("G does not follow D: a higher {=gamma}", "a larger {=n}", "a lower {=lr}")
        return Sign(f"k rests at 0, its lower end{numbers}", k[-1], advice)
    return HEALTHY


# The terms of G's loss: (key, field with its weight, whether the logged value has it in it).
_TERMS = (
    ("loss/G_l1", "lambda_l1", True),
    ("loss/cycle_A", "lambda_a", True),
    ("loss/cycle_B", "lambda_b", True),
    ("loss/identity_A", "lambda_identity", True),
    ("loss/identity_B", "lambda_identity", True),
    ("loss/G_self", "lambda_self", True),
    ("loss/G_features", "lambda_features", True),
    ("loss/kl", "lambda_kl", False),
)
_ADVERSARIAL = (("loss/G_gan",), ("loss/G_A", "loss/G_B"), ("loss/G_fake",))
# pix2pix at its usual 100:1 has 10 to 40 times its adversarial loss in L1, CycleGAN 3 times.
_IMBALANCE = 100.0


def loss_imbalance(rows: Rows, case: Case) -> Answer:
    """A term of G's loss is so large that the adversarial one does not count."""
    if case.loss(rows) not in ("vanilla", "softplus", "lsgan"):
        return None  # a critic's value has no zero that means anything
    for names in _ADVERSARIAL:
        parts = [rows.typical(name) for name in names]
        if None not in parts:
            break
    else:
        return None
    adversarial, answer = math.fsum(map(abs, parts)), None
    if not adversarial:
        return None  # switched off
    for key, field, weighted in _TERMS:
        value = rows.typical(key)
        if value is None:
            continue
        value = abs(value) if weighted else abs(value) * case.number(field, 1.0)
        answer = HEALTHY
        many = value / max(adversarial, 1e-12)
        if many > _IMBALANCE:
            sizes = f"{value:.3g} to {adversarial:.3g}"
            told = f"{key} is {many:.0f} times G's adversarial loss ({sizes}), which is lost beside it"
            advice = case.advice(f"lower {{={field}}}", "or raise {=lambda_gan}") or "lower the weight of that term"
            return Sign(told, many, advice, severity=many)
    return answer


# Evaluations are of some dozen pictures: a held-out mean moves by a few percent between them.
_RISE, _GAP, FEWEST_EVALUATIONS = 1.05, 1.3, 5
# Or they stand still, while training ones lose a third and more of their error over as many evaluations.
_STILL, _LEARNED, _WIDE_GAP = 0.97, 0.7, 1.5
# Or held-out ones still get a little better, but are so many times as bad; healthy demos have 1 to 1.3.
_FAR_APART = 4.0


def memorisation(rows: Rows, case: Case) -> Answer:
    """Training pictures go on getting better, held-out ones get worse, stand still, or are far behind."""
    every = rows.evaluations
    if not every:
        return None
    name = next(key for key in every[-1].values if key.startswith("held_out/")).removeprefix("held_out/")
    told = [row for row in every if f"held_out/{name}" in row.values and f"train/{name}" in row.values]
    if len(told) < FEWEST_EVALUATIONS:
        return None
    held_out = [row.values[f"held_out/{name}"] for row in told]
    train = [row.values[f"train/{name}"] for row in told]
    best = min(range(len(told)), key=held_out.__getitem__)
    since = len(told) - 1 - best
    recent, seen = median(held_out[-3:]), median(train[-3:])
    rises = recent > _RISE * held_out[best] and since >= 3
    learned = seen < 0.95 * train[best]
    still = next((i for i in range(len(told) - FEWEST_EVALUATIONS + 1) if recent > _STILL * held_out[i]), None)
    if rises and learned and recent > _GAP * seen > 0.0:
        at = told[best]
        line = (
            f"G learns its training pictures by heart: {name} {seen:.3g} on them, {recent:.3g} on held-out ones, "
            f"which were best with {held_out[best]:.3g} {since} evaluations ago"
        )
    elif still is not None and seen < _LEARNED * train[still] and recent > _WIDE_GAP * seen > 0.0:
        at = told[still]
        line = (
            f"G learns its training pictures by heart: {name} went from {train[still]:.3g} to {seen:.3g} on them, and "
            f"from {held_out[still]:.3g} to {recent:.3g} on held-out ones"
        )
    elif recent > _FAR_APART * seen > 0.0:
        near = [i for i in range(len(told) - 1) if held_out[i] <= _FAR_APART * train[i]]
        at = told[near[-1] + 1 if near else 0]
        line = f"G learns its training pictures by heart: {name} {seen:.3g} on them, {recent:.3g} on held-out ones"
    else:
        return HEALTHY
    advice = case.advice(
        "use checkpoints/best",
        "stop earlier: fewer {=epochs}",
        "more pictures, or more of each: {=load_size} above {=crop_size}",
        "{flip}" if case.get("flip") is False else "",
        "more dropout: {=dropout_p}",
        "a smaller G: {=ngf}",
        "fewer {=skips}" if case.get("skips") == "all" else "",
        "{=weight_decay}",
    )
    return Sign(line, recent / seen, advice, severity=recent / seen, since=(at.images, at.steps))
