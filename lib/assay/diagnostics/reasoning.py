"""Reasoning: how much of the answers is right within what training showed and beyond it, and where it breaks.

Beside a score stands what needs no reasoning: a guess, the commonest answer, the commonest answer after one token (evals/rows.py).
"""

from collections.abc import Mapping

import numpy as np

from assay.diagnostics.measurement import HIGHER, POINT, Measurement, Plot, inapplicable, sample
from assay.diagnostics.subject import Answers, Subject, farther
from assay.evals.rows import LOWER_IS_BETTER, baselines

GROUP = "reasoning"
NAMES = ("in_distribution", "above_baseline", "out_of_distribution", "half_length")
LEARNT = 0.1  # above a baseline, from which on there is something to halve
PARTS = 12  # points of a curve, at most


def reasoning(subject: Subject) -> list[Measurement]:
    """Of tasks that read tokens and answer in tokens, or write; a class for the whole input is in the group generalisation."""
    if not subject.tokens or subject.task.vocabulary.pooled or subject.task.vocabulary.heads:
        reason = "one answer for a whole input takes no steps that could be counted" if subject.task.vocabulary.pooled else "several heads"
        return [inapplicable(GROUP, name, f"does not apply: {reason}.") for name in NAMES]
    split = _within(subject)
    inside = subject.answers(split)
    percent = f"{100 * inside.columns['score'].mean():.1f} %"
    what = subject.headline.replace("_", " ")
    rows = [
        within := sample(
            GROUP,
            NAMES[0],
            "mean",
            {f"{split}/score": inside.columns["score"]},
            {split: inside.groups},
            subject.right,
            unit="fraction",
            how=f"{what} on {len(inside.ids)} examples of the split {split}, spread over its lengths",
            meaning=f"On inputs like those of training, {percent} are answered rightly ({what}).",
            better=HIGHER,
            margin=POINT,
            measures=subject.headline,
            plot=_by_length(inside, subject.headline),
        ),
        _above(subject, split, inside, within),
    ]
    beyond = [name for name in farther(subject.task) if name != split]
    if subject.choosing and subject.task.shifted:  # there is nothing like them but what is judged by
        beyond = []
    if not beyond:
        reason = "does not apply: the task has no longer, deeper or otherwise farther inputs than training's."
        return [*rows, *(inapplicable(GROUP, name, reason) for name in NAMES[2:])]
    outside = subject.answers(beyond[0])
    score = float(outside.columns["score"].mean())
    known = baselines(inside.records, subject.task, subject.headline)
    rows.append(
        sample(
            GROUP,
            NAMES[2],
            "mean",
            {f"{beyond[0]}/score": outside.columns["score"]},
            {beyond[0]: outside.groups},
            subject.right,
            unit="fraction",
            how=f"{what} on {len(outside.ids)} examples of the split {beyond[0]}, beyond what training shows",
            meaning=f"On inputs beyond those of training, {100 * score:.1f} % are answered rightly, against {percent} within.",
            better=HIGHER,
            margin=POINT,
            measures=subject.headline,
            plot=_by_length(outside, subject.headline),
        )
    )
    return [*rows, _half(subject, split, inside, beyond[0], outside, max(known.values(), default=0.0))]


def beside(answers: Answers, known: Mapping[str, float], headline: str) -> Plot:
    """A score, and what needs no model."""
    values, error = {"the model": float(answers.columns["score"].mean()), **known}, headline in LOWER_IS_BETTER
    label, factor = headline.replace("_", " ") + ("" if error else " (%)"), 1.0 if error else 100.0
    shown = [float(f"{factor * value:.5g}") for value in values.values()]
    return Plot("bar", list(range(len(values))), {"score": shown}, "", label, list(values))


# -- private --------------------------------------------------------------------------------------------------------------


def _within(subject: Subject) -> str:
    """The split whose inputs are like those of training."""
    beyond = farther(subject.task)
    return "valid" if subject.split in beyond and "valid" in subject.task.splits else subject.split


def _above(subject: Subject, split: str, inside: Answers, within: Measurement) -> Measurement:
    """The row `within` less a number, and so is its interval."""
    known = baselines(inside.records, subject.task, subject.headline)
    if not known:
        return inapplicable(GROUP, NAMES[1], f"does not apply: no baseline is known for {subject.headline}.")
    name = max(known, key=lambda one: known[one])
    listed = ", ".join(f"{one} {100 * value:.1f} %" for one, value in known.items())
    over = inside.columns["score"] - known[name]
    ends = within.interval and (within.interval[0] - known[name], within.interval[1] - known[name])
    found = sample(
        GROUP,
        NAMES[1],
        "mean",
        {f"{split}/score": over},
        {split: inside.groups},
        unit="fraction",
        how=f"the score less that of the best of: {listed}",
        meaning=f"That is {100 * over.mean():.1f} points above what the baseline '{name}' has without reasoning.",
        better=HIGHER,
        margin=POINT,
        measures=subject.headline,
        plot=beside(inside, known, subject.headline),
    )
    return found._replace(interval=ends)


def _half(subject: Subject, split: str, inside: Answers, beyond: str, outside: Answers, guessed: float) -> Measurement:
    """The length from which on at most half of the score at the shortest lengths is left, above what is `guessed`."""
    length = np.concatenate([inside.columns["length"], outside.columns["length"]])
    if len(np.unique(outside.columns["length"])) < 2 and len(np.unique(length)) < 4:
        return inapplicable(GROUP, NAMES[3], "does not apply: the tested inputs have too few lengths.")
    both = np.concatenate([inside.columns["score"], outside.columns["score"]])
    shortest = np.argsort(length, kind="stable")[: max(8, len(length) // 16)]
    if both[shortest].mean() - guessed < LEARNT:
        return inapplicable(
            GROUP, NAMES[3], "does not apply: at the shortest inputs the score is that of a baseline, and has nothing to halve."
        )
    found = sample(
        GROUP,
        NAMES[3],
        "half_length",
        {f"{split}+{beyond}/length": length, f"{split}+{beyond}/score": both - guessed},
        unit="tokens"
        if subject.task.name not in ("arithmetic/nested",) and not subject.task.name.startswith(("ctl", "listops"))
        else "levels",
        how=f"means over neighbouring lengths of {split} and {beyond}, less {100 * guessed:.1f} % that a baseline has; "
        f"lengths {length.min():.0f} to {length.max():.0f} were tested",
        better=HIGHER,
    )
    longest = float(length.max())
    if found.value is not None and found.value > longest:
        said = f"Above the baseline, the score never falls to half of what it is at the shortest inputs, up to the longest ({longest:.0f})."
    else:
        said = f"From length {found.value:.0f} on, at most half of the score at the shortest inputs is left, above the baseline."
    return found._replace(meaning=said, margin=0.05, relative=True, plot=_curve(length, both, f"{subject.headline.replace('_', ' ')} (%)"))


def _by_length(answers: Answers, headline: str) -> Plot:
    """A curve, or where all have one length the one score."""
    length = answers.columns["length"]
    if len(np.unique(length)) < 2:
        return beside(answers, {}, headline)
    return _curve(length, answers.columns["score"], f"{headline.replace('_', ' ')} (%)")


def _curve(length: np.ndarray, score: np.ndarray, label: str) -> Plot:
    """Means over neighbouring lengths."""
    order = np.argsort(length, kind="stable")
    parts = np.array_split(order, min(PARTS, len(np.unique(length)), len(order)))
    x = [round(float(length[part].mean()), 2) for part in parts]
    return Plot("line", x, {"score": [round(100 * float(score[part].mean()), 3) for part in parts]}, "length", label)
