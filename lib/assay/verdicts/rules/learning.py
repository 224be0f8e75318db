"""Rules on training: what has not learned, ended early, exploded, vanished, or is still noisy."""

import math
from collections.abc import Iterator

from assay.core.number import apart
from assay.diagnostics.measurement import POINT
from assay.verdicts.rules.rule import ANEW, MASTERED, SHORT, Facts, Found, Remedy, Rows, of_steps, progress_of, training_score, value

FALLING = 0.1  # share of the training loss that twice the steps still remove
FLAT = 0.02  # share of the training loss below which twice the steps change nothing
PASSES, LEAST = 10, 100  # passes over the training examples, and steps, that more training has at least
MORE = 4  # times the run's updates, where more may suffice
SPIKE = 20.0  # ratio to the preceding gradient norms: healthy runs vary by a small factor, and tenfold when a rule is discovered
BOUND = 1.0  # clipping norm
RUNAWAY = 1.2  # ratio to the training loss of uniform guessing, which slow learning alone does not exceed
GONE = 0.9  # fraction of dead units beyond which a network does not recover
VANISHED = -2.0  # log10 of the ratio of the first block's gradient to the last block's
LATE = 0.1  # ratio of the width of the late slope's interval to the held-out loss, for a constant learning rate


def not_learnt(rows: Rows, facts: Facts) -> Found | None:
    """Detects a model at its baseline, on training examples too: nothing else that is measured means anything yet.

    The first remedy follows the loss: one above that of guessing needs a smaller rate, one that still falls more updates, and one that does
    not move a larger rate.
    """
    learned = progress_of(rows)
    if learned is None or learned.known:
        return None
    return Found(
        SHORT,  # below a known cause
        f"the score is {apart(learned.above, learned.unit, 'above', 'below')} that of the best answer without a model",
        f"{learned.row.group}/{learned.row.name}",
        "higher" if learned.unit else "lower",
        learned.row.unit,
        [
            *(Remedy(spec, share * learned.room, ANEW) for spec, share in of_steps(facts) if spec.partition(":")[0] != "curriculum"),
            *(Remedy(spec, 0.1 * learned.room) for spec in _of_training(rows, facts)),
            *(Remedy(spec, share * learned.room, ANEW) for spec, share in of_steps(facts) if spec.partition(":")[0] == "curriculum"),
        ],
    )


def under_trained(rows: Rows, facts: Facts) -> Found | None:
    """Detects training that ended early: the training score is low, and the loss still falls with more steps."""
    slope, trained, learned = rows.get("generalisation/learning_curve_slope"), training_score(rows), progress_of(rows)
    if slope is None or trained is None or learned is None or not learned.known or trained > MASTERED or not facts.updates:
        return None
    fall = -slope.interval[1] if slope.interval else 0.0  # the least that the interval allows
    if facts.loss <= 0 or fall < FALLING * facts.loss:
        return None
    return Found(
        SHORT * (1 - trained),
        f"the training score is {100 * trained:.1f} %, and twice the steps still lower the loss by {100 * min(fall / facts.loss, 1):.0f} %",
        f"{learned.row.group}/{learned.row.name}",
        "higher" if learned.unit else "lower",
        learned.row.unit,
        [Remedy(f"longer:steps={further_steps(facts)}", 0.1 * (1 - trained)), Remedy("larger:times=2", 0.05 * (1 - trained))],
    )


def exploding_gradients(rows: Rows, facts: Facts) -> Found | None:
    """Detects gradient spikes, or divergence to a loss above uniform guessing, in training without gradient clipping."""
    largest, norm, nll = (
        rows.get(name) for name in ("optimisation health/largest_gradient", "optimisation health/gradient_norm", "calibration/nll")
    )
    trained, even = training_score(rows), math.log(max(facts.outputs, 2))
    if trained is None or facts.optimizer["clip_norm"] or trained > MASTERED:
        return None
    if largest is not None and value(largest) >= SPIKE:
        row, unit, effect = (
            ("calibration/nll", nll.unit, max(POINT, 0.1 * value(nll))) if nll else ("generalisation/score", "fraction", POINT)
        )
        return Found(
            1 - trained,
            f"a gradient norm was {value(largest):.3g} times the median of the preceding ones, and gradients are not clipped",
            row,
            "lower" if nll else "higher",
            unit,
            [Remedy("clip:norm=1.0", effect)],
        )
    if norm is not None and nll is not None and value(norm) > BOUND and facts.loss > RUNAWAY * even:
        return Found(
            1 - trained,
            f"the final training loss is {facts.loss:.2f} nats, above {even:.2f} for uniform guessing: steps are too large, and gradients "
            "are not clipped",
            "calibration/nll",
            "lower",
            nll.unit,
            [Remedy("clip:norm=1.0", max(POINT, 0.3 * (value(nll) - even)))],
        )
    return None


def vanishing_gradients(rows: Rows, facts: Facts) -> Found | None:
    """Detects vanishing gradients in the first blocks. Fewer blocks shorten the path; with dead units, no gradient would pass at all."""
    balance, dead = rows.get("optimisation health/gradient_balance"), rows.get("optimisation health/dead_units")
    trained = training_score(rows)
    if balance is None or trained is None or value(balance) > VANISHED or trained > MASTERED or (dead and value(dead) > GONE):
        return None
    return Found(
        1 - trained,
        f"the gradient of the first block is 10^{value(balance):.1f} times that of the last block",
        "generalisation/score",
        "higher",
        "fraction",
        [Remedy("prune:layers=0.5", 0.1 * (1 - trained))],
    )


def noisy_end(rows: Rows, facts: Facts) -> Found | None:
    """Detects a constant learning rate that leaves noise in the last steps."""
    slope, nll, trained = rows.get("generalisation/learning_curve_slope"), rows.get("calibration/nll"), training_score(rows)
    if slope is None or nll is None or slope.interval is None or trained is None or facts.optimizer["schedule"] != "constant":
        return None
    spread = slope.interval[1] - slope.interval[0]
    if trained > 1 - POINT or spread < LATE * value(nll):
        return None
    return Found(
        POINT,
        "the learning rate is constant, and the loss still fluctuates between steps",
        "calibration/nll",
        "lower",
        nll.unit,
        [Remedy("average:decay=0.99", POINT)],
    )


def further_steps(facts: Facts) -> int:
    """Returns how many more steps to train: a multiple of the run's, and enough to see the training examples several times."""
    return max(MORE * facts.updates, PASSES * facts.epoch, LEAST)


# -- private --------------------------------------------------------------------------------------------------------------


def _of_training(rows: Rows, facts: Facts) -> Iterator[str]:
    """Yields how to train a model that has not learned, the most likely first."""
    slope, even, rate = rows.get("generalisation/learning_curve_slope"), math.log(max(facts.outputs, 2)), facts.optimizer["learning_rate"]
    further = f"longer:steps={further_steps(facts)}"
    faster, slower = (f"{further},rate={times * rate:g}" for times in (10, 0.1))
    falls = slope is None or slope.interval is None or slope.interval[1] < -FLAT * facts.loss  # so do the first few steps
    away = facts.loss > RUNAWAY * even
    order = [further, faster, slower] if falls else [slower, further, faster] if away else [faster, further, slower]
    wider = ["larger:times=2"] if MORE * facts.updates >= further_steps(facts) else []  # it trains as long as the run
    yield from (*order[:2], *wider, order[2])
