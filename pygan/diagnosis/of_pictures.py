"""What can be seen in G's pictures: patterns, inverted colours, black, white, nothing at all."""

from __future__ import annotations

from pygan.diagnosis.rows import Case, Rows
from pygan.diagnosis.sign import DIFFERENT, HEALTHY, Answer, Sign, of

# Amplitudes in phase over 16 pixels. Real pictures have 1 to 6 grey levels (edges); transposed convolutions of random
# weights 5 to 10, which they lose in some hundred steps. From 6 on people see a pattern on a flat wall.
_PATTERN, _PATTERN_TO_REAL = 6.0, 2.0


def checkerboard(rows: Rows, case: Case) -> Answer:
    """A regular pattern at the stride of G's convolutions."""
    answer: Answer = None
    for period in (2, 4):
        key = f"vital/checkerboard_{period}"
        for end in ("", "_A"):
            fake, real = rows.typical(key + end), rows.typical(f"{key}_real{end}")
            if fake is None or real is None:
                continue
            answer = answer or HEALTHY
            if fake > _PATTERN and fake > _PATTERN_TO_REAL * real:
                told = (
                    f"a checkerboard in the pictures{of(end)}: amplitude {fake:.1f} grey levels at a period of "
                    f"{period} pixels, real ones have {real:.1f}"
                )
                advice = case.advice(
                    "{upsample} nearest has none" if case.get("upsample") != "nearest" else "",
                    "train longer: what the first steps leave fades as a rule",
                    "a D of smaller patches sees it better: lower {=n_layers_d}",
                )
                return Sign(told, fake, advice, severity=fake)
    return answer


# Of colours on a grid of 16x16: healthy pairs have 0.6 to 0.95 after some hundred steps, noise around 0. Between input
# and output there may be less by nature (grass is dark, snow is bright), but then pictures that have nothing to do with
# each other show it too.
_INVERTED, _INVERTED_FROM_INPUT, _BELOW_CHANCE = -0.3, -0.6, 0.6


def inverted_colours(rows: Rows, case: Case) -> Answer:
    """Bright is dark and dark is bright: a known fixed point of cycles, which undo it themselves."""
    answer: Answer = None
    for end in ("", "_A"):
        paired, given = rows.typical("vital/colour" + end), rows.typical("vital/colour_input" + end)
        chance = rows.typical("vital/colour_chance" + end)
        if paired is not None:
            value, limit, other = paired, _INVERTED, "the target"
        elif given is not None:
            value, limit, other = given, _INVERTED_FROM_INPUT, "the input"
            limit = limit if chance is None else min(limit, chance - _BELOW_CHANCE)
        else:
            continue
        answer = answer or HEALTHY
        if value < limit:
            advice = case.advice(
                "check that the pictures of both kinds are read alike",
                "raise {=lambda_identity}, which keeps colours",
                "another {=seed}: the first steps decide it",
                "a higher {=lambda_l1}",
                "a higher {=lambda_self}",
            )
            told = f"colours are inverted{of(end)}: correlation {value:.2f} with those of {other}"
            return Sign(told, value, advice)
    return answer


_SATURATED = 0.4  # of all values more than in real pictures: tanh is at its ends there and has no gradient
_FLAT, _FLAT_TO_REAL = 2.0, 0.1  # grey levels within a picture of 16x16; a new G has 3 to 6, real ones 20 to 60


def saturated_pictures(rows: Rows, case: Case) -> Answer:
    """Much of what G paints is full black or full white."""
    answer: Answer = None
    for end in ("", "_A"):
        fake, real = rows.typical("vital/saturation" + end), rows.typical("vital/saturation_real" + end)
        if fake is None or real is None:
            continue
        answer = answer or HEALTHY
        if fake > real + _SATURATED:
            advice = case.advice(
                "a lower {=lr}", "a smaller {=init_gain}", "train without {amp}" if case.get("amp") else ""
            )
            told = f"pictures{of(end)} are saturated: {100 * fake:.0f} % of the values are full black or white"
            return Sign(f"{told}, {100 * real:.0f} % in real ones", fake, advice)
    return answer


def blank_pictures(rows: Rows, case: Case) -> Answer:
    """What G paints is one flat colour."""
    answer: Answer = None
    for end in ("", "_A"):
        fake, real = rows.typical("vital/contrast" + end), rows.typical("vital/contrast_real" + end)
        if fake is None or real is None or real < DIFFERENT:
            continue
        answer = answer or HEALTHY
        if fake < _FLAT and fake < _FLAT_TO_REAL * real:
            advice = case.advice(
                "start anew with a lower {=lr}, or another {=seed}",
                "train without {amp}" if case.get("amp") else "",
                "a higher {=lambda_l1}",
            )
            told = f"pictures{of(end)} are blank: they vary by {fake:.2f} grey levels, real ones by {real:.1f}"
            return Sign(told, fake, advice)
    return answer
