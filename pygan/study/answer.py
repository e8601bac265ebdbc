"""The answer of a study in words: computed from the numbers, and never stronger than their intervals allow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pygan.bootstrap import Interval
from pygan.study import numbers
from pygan.study.numbers import METRICS, Cell
from pygan.study.plan import Plan

AXES = {"skips": "skips", "lambda": "L1 weight", "patch": "receptive field"}
_PLACES = {"held_out": "held-out", "other": "other-domain", "train": "training"}
_DOUBT = 0.05  # chance of at least one wrong statement in a family of comparisons that are told together (Bonferroni)
_FEW = 20  # pictures, below which a bootstrap is not to be trusted
_JUDGES = ("l1", "ssim", "edges", "lpips")


def answer(plan: Plan, cells: Sequence[Cell]) -> list[str]:
    """Sentences, the answer to the question first. Empty before two variants are done."""
    axis, said = AXES[plan.kind], []
    for shared, group in numbers.groups(cells, axis):
        if len(group) < 2:
            continue
        of_skips = [_overfits(plan, group), _steps(plan, group)] if plan.kind == "skips" else [_ends(plan, group)]
        lines = [*of_skips, *(_best(plan, group, metric) for metric in _JUDGES)]
        if plan.kind == "skips":
            lines += [_carries(group), _follows(plan, group), _elsewhere(plan, group)]
        lines += [_remembers(group)]
        where = ", ".join(f"{name} {place}" for name, place in shared.items())
        said += [f"{where}: {line}" if where else line for line in lines if line]
    for other in dict.fromkeys(name for cell in cells for name in cell.variant.axes):
        said += [] if other == axis else _sensitivity(plan, cells, other)
    return [*said, _caveat(plan, cells)] if said else []


def shown(value: Interval, digits: int = 2) -> str:
    """As in 6.13 [5.02, 7.20]."""
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _ends_of(group: Sequence[Cell]) -> tuple[Cell, Cell]:
    """Of the variants of skips, the one that keeps the fewest and the one that keeps the most."""
    return min(group, key=lambda cell: len(cell.kept)), max(group, key=lambda cell: len(cell.kept))


def _net(cell: Cell) -> str:
    return f"the network with {cell.variant.title}"


def _overfits(plan: Plan, group: Sequence[Cell]) -> str:
    """Does a U-Net overfit where an encoder-decoder does not?"""
    few, many = _ends_of(group)
    if few is many:
        return ""
    test = _PLACES[plan.test]
    more = numbers.difference_of_gaps(many, few, "l1", plan.test)
    if more.low > 0:
        verdict = f"{_net(many)} overfits more"
    elif more.high < 0:
        verdict = f"{_net(many)} overfits less"
    else:
        verdict = "which one overfits more cannot be told apart from chance"
    if not more.low <= 0 <= more.high and min(len(cell.rows) for cell in (few, many)) == 1:
        verdict += ", as far as one training of each can tell"
    better = numbers.difference(many, few, plan.test, "l1")
    if better.high < 0:
        judged = f"{_net(many)} is the better one, by {shown(_minus(better))}"
    elif better.low > 0:
        judged = f"{_net(many)} is the worse one, by {shown(better)}"
    else:
        judged = f"the two cannot be told apart ({shown(better)})"
    gaps = [cell.gap("l1", plan.test) for cell in (many, few)]
    alone = [cell.variant.title for cell, gap in zip((many, few), gaps, strict=True) if gap.low > 0]
    who = {0: "neither overfits by more than chance", 2: "both overfit"}.get(len(alone))
    return (
        f"With {many.variant.title} the gap ({test} minus training L1) is {shown(gaps[0])} grey levels, with "
        f"{few.variant.title} {shown(gaps[1])}: {who or f'only the one with {alone[0]} overfits by more than chance'}; "
        f"the difference is {shown(more)}: {verdict}. On {test} pictures themselves "
        f"{judged}."
    )


def _minus(value: Interval) -> Interval:
    return Interval(-value.mean, -value.high, -value.low, value.std)


def _steps(plan: Plan, group: Sequence[Cell]) -> str:
    """Which of the steps from fewer skips to more changes the gap?"""
    chain = sorted(group, key=lambda cell: len(cell.kept))
    pairs = [(a, b) for a, b in itertools.pairwise(chain) if set(a.kept) < set(b.kept)]
    if len(pairs) < 2:
        return ""
    confidence, told = 1 - _DOUBT / len(pairs), []
    for a, b in pairs:
        change = numbers.difference_of_gaps(b, a, "l1", plan.test, confidence)
        if change.low > 0 or change.high < 0:
            told.append(f"from {a.variant.title} to {b.variant.title} by {change.mean:+.2f}")
    if not told:
        return f"No single one of the {len(pairs)} steps from fewer skips to more changes the gap by more than chance."
    return f"Steps that change the gap by more than chance: {'; '.join(told)} grey levels."


def _best(plan: Plan, group: Sequence[Cell], metric: str) -> str:
    """Which variant is best on unseen pictures, and which ones cannot be told apart from it?"""
    if not all(cell.has(plan.test, metric) for cell in group):
        return ""
    heading, digits, less = METRICS[metric]
    means = [cell.mean(plan.test, metric) for cell in group]
    at = min(range(len(group)), key=lambda i: means[i].mean if less else -means[i].mean)
    confidence, alike = 1 - _DOUBT / (len(group) - 1), []
    for i, cell in enumerate(group):
        apart = numbers.difference(cell, group[at], plan.test, metric, confidence)
        if i != at and apart.low <= 0 <= apart.high:
            alike.append(cell.variant.title)
    also = f"; not told apart from it: {', '.join(alike)}" if alike else "; all others are worse by more than chance"
    where, noun = _PLACES[plan.test].capitalize(), {"edges": "edge correlation"}.get(metric, heading)
    return f"{where} {noun} is best with {group[at].variant.title}, {shown(means[at], digits)}{also}."


def _ends(plan: Plan, group: Sequence[Cell]) -> str:
    """How the gap changes from the first place on the axis to the last."""
    first, last = group[0], group[-1]
    more = numbers.difference_of_gaps(last, first, "l1", plan.test)
    verdict = "more" if more.low > 0 else "less" if more.high < 0 else ""
    told = f"overfitting is {verdict} at the latter" if verdict else "the two cannot be told apart"
    gaps = [shown(cell.gap("l1", plan.test)) for cell in (first, last)]
    return (
        f"The gap ({_PLACES[plan.test]} minus training L1) is {gaps[0]} grey levels ({first.variant.title}) and "
        f"{gaps[1]} ({last.variant.title}); the difference is {shown(more)}: {told}."
    )


def _carries(group: Sequence[Cell]) -> str:
    """Which skip carries most, in the network that has the most of them?"""
    cell = _ends_of(group)[1]
    if len(cell.kept) < 2:
        return ""
    carried = {skip: cell.carried(skip, "output") for skip in cell.kept}
    first, second = sorted(carried, key=lambda skip: -carried[skip].mean())[:2]
    apart = numbers.interval(carried[first] - carried[second])
    place = {min(cell.kept): " (the innermost)", max(cell.kept): " (the outermost)"}.get(first, "")
    change, error = (numbers.interval(cell.carried(first, what)) for what in ("output", "error"))
    if apart.low <= 0:
        return (
            f"Which skip carries most cannot be told: zeroing skip {first}{place} changes the output by "
            f"{change.mean:.1f} grey levels, skip {second} by {carried[second].mean():.1f}."
        )
    return (
        f"Skip {first}{place} carries most: zeroing it changes the output by {shown(change, 1)} grey levels and the "
        f"error by {error.mean:+.1f} [{error.low:+.1f}, {error.high:+.1f}]; next is skip {second} with "
        f"{carried[second].mean():.1f}."
    )


def _follows(plan: Plan, group: Sequence[Cell]) -> str:
    """Do skips let the network copy the edges of its input?"""
    few, many = _ends_of(group)
    if few is many:
        return ""
    more = numbers.difference(many, few, plan.test, "input_edges")
    verdict = "more" if more.low > 0 else "less" if more.high < 0 else ""
    told = f"{_net(many)} copies {verdict} of its input's edges" if verdict else "the two cannot be told apart"
    values = [cell.mean(plan.test, "input_edges").mean for cell in (many, few)]
    return (
        f"Edges of the output lie where the input's do with a correlation of {values[0]:.2f} ({many.variant.title}) "
        f"and {values[1]:.2f} ({few.variant.title}), a difference of {shown(more)}: {told}."
    )


def _elsewhere(plan: Plan, group: Sequence[Cell]) -> str:
    """And on pictures of another domain?"""
    few, many = _ends_of(group)
    if few is many or plan.asked["domains"] != "both" or not all(cell.has("other", "l1") for cell in (few, many)):
        return ""
    better = numbers.difference(many, few, "other", "l1")
    more = numbers.difference_of_gaps(many, few, "l1", "other")
    verdict = "overfits more" if more.low > 0 else "overfits less" if more.high < 0 else "cannot be told apart"
    judged = "better" if better.high < 0 else "worse" if better.low > 0 else "neither better nor worse for certain"
    return (
        f"On pictures of another domain {_net(many)} is {judged} (L1 {better.mean:+.2f} "
        f"[{better.low:+.2f}, {better.high:+.2f}]), and by the gap to them it {verdict} ({shown(more)})."
    )


def _remembers(group: Sequence[Cell]) -> str:
    """Are training pictures painted?"""
    if not all(cell.near("seen").size for cell in group):
        return ""  # too few pictures to be compared with
    nearer = {cell.variant.title: cell.memory() for cell in group}
    told = [f"{title} ({by:.1f})" for title, (by, chance) in nearer.items() if chance < _DOUBT / len(group)]
    if told:
        return (
            "Painted from memory: outputs lie nearer to training pictures than to as many others, by grey levels, with "
            f"{'; '.join(told)}."
        )
    title, (by, chance) = min(nearer.items(), key=lambda pair: pair[1][1])
    return (
        "No variant's outputs lie nearer to training pictures than to as many others by more than chance (the least "
        f"likely by chance: {title}, {by:+.1f} grey levels, {100 * chance:.0f} %)."
    )


def _sensitivity(plan: Plan, cells: Sequence[Cell], axis: str) -> list[str]:
    """What else is varied: its first place against its last, the rest being equal."""
    told = []
    for shared, group in numbers.groups(cells, axis):
        first, last = group[0], group[-1]
        if len(group) < 2 or first.variant.axes[axis] == last.variant.axes[axis]:
            continue
        more = numbers.difference_of_gaps(last, first, "l1", plan.test)
        verdict = "is wider" if more.low > 0 else "is narrower" if more.high < 0 else "cannot be told apart"
        where = ", ".join(f"{name} {place}" for name, place in shared.items())
        told.append(f"{where}: the gap {verdict} ({shown(more)})")
    if not told:
        return []
    places = list(dict.fromkeys(cell.variant.axes[axis] for cell in cells))
    return [f"From {axis} {places[0]} to {places[-1]}, {'; '.join(told)}."]


def _caveat(plan: Plan, cells: Sequence[Cell]) -> str:
    """What the intervals are of."""
    items = {where: cells[0].values(where, "l1").shape[1] for where in ("train", plan.test)}
    counts = f"{items['train']} training and {items[plan.test]} {_PLACES[plan.test]} pictures"
    if min(items.values()) < _FEW:
        counts += " (so few that the intervals are narrower than they should be)"
    networks = min(len(cell.rows) for cell in cells)
    if networks > 1:
        return f"Intervals: 95 % bootstrap, over {counts} and over {networks} networks of each variant."
    return (
        f"Intervals: 95 % bootstrap, over {counts}. Each variant was trained once, so they do not say how much another "
        "seed would change; --seeds 3 would."
    )
