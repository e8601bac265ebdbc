"""Does G learn, and does it still paint different pictures?"""

from __future__ import annotations

from pygan.diagnosis.rows import Case, Rows
from pygan.diagnosis.sign import DIFFERENT, HEALTHY, Answer, Sign, of

# RMS distances between pictures at 16x16 pixels: a G that has learned has 0.6 to 1 of that of real ones, one that
# begins 0.1 to 0.3 for its first few hundred steps.
_COLLAPSED = 0.2


def generator_collapse(rows: Rows, case: Case) -> Answer:
    """G paints the same picture, whatever it is given."""
    answer: Answer = None
    for end in ("", "_A"):
        fake, real = rows.typical("vital/diversity_fake" + end), rows.typical("vital/diversity_real" + end)
        given = rows.typical("vital/diversity_input" + end)
        if fake is None or real is None or min(real, real if given is None else given) < DIFFERENT:
            continue
        answer = answer or HEALTHY
        if fake < _COLLAPSED * real:
            what = "whatever the noise" if given is None else "whatever the input"
            told = f"G{of(end)} paints nearly the same picture {what}: its pictures differ by {fake:.1f} grey levels"
            advice = case.advice(
                "start anew with a lower {=lr}",
                "a larger {=batch}",
                "a higher {=gamma} buys diversity",
                "a higher {=pt_weight}",
                "a higher {=lambda_l1}",
                "higher {=lambda_a} and {=lambda_b}",
                "a higher {=lambda_rec}",
                "{=gan_mode}: wgangp" if case.get("gan_mode") in ("vanilla", "softplus") else "",
            )
            return Sign(f"{told}, real ones by {real:.1f}", fake / real, advice, severity=real / max(fake, 1e-3))
    return answer


# Adam divides by the size of a gradient, so that a small one alone costs nothing; not below its eps of 1e-8.
_NOTHING = 1e-7
_FALL = 1e-3  # of what it was when the phase was young: healthy runs move by less than a factor of 20


def vanishing_gradients(rows: Rows, case: Case) -> Answer:
    """Next to nothing is left of G's gradient, or of that of its first layer."""
    answer: Answer = None
    for key in rows.keys("vital/grad_G"):
        now, usual = rows.typical(key), rows.usual(key)
        if now is None:
            continue
        answer = answer or HEALTHY
        net, first = key.removeprefix("vital/grad_").removesuffix("_first_to_last"), key.endswith("_first_to_last")
        nothing = now < (_FALL * 0.1 if first else _NOTHING)
        fallen = usual is not None and now < _FALL * usual
        if nothing or fallen:
            which = f"of {net}'s first layer, to the last one's," if first else f"of {net}"
            before = f"; it was {usual:.2g}" if fallen else ""
            advice = case.advice(
                "see whether D is always right or G's tanh saturated; what helps both:",
                "a lower {=lr}",
                "{=norm}: batch or instance" if case.get("norm") == "none" else "",
                "{=skips}: all" if case.get("skips") not in ("all", None) else "",
                "check {=init_gain}",
                "{=gan_mode}: lsgan" if case.get("gan_mode") == "vanilla" else "",
            ).replace(":; ", ": ")
            return Sign(f"the gradient {which} has vanished: RMS {now:.2g}{before}", now, advice)
    return answer


def exploding_gradients(rows: Rows, case: Case) -> Answer:
    """A net's gradient is a thousand times what it was."""
    answer: Answer = None
    for key in rows.keys("vital/grad_"):
        now, usual = rows.typical(key), rows.usual(key)
        if key.endswith("_first_to_last") or now is None or not usual:
            continue
        answer = answer or HEALTHY
        if now > usual / _FALL:
            net = key.removeprefix("vital/grad_")
            advice = case.advice("a lower {=lr}", "a higher {=lambda_gp}" if case.get("gan_mode") == "wgangp" else "",
                                 "train without {amp}" if case.get("amp") else "")  # fmt: skip
            told = f"the gradient of {net} explodes: RMS {now:.2g}; it was {usual:.2g}"
            return Sign(told, now, advice, severity=now / usual)
    return answer
