"""Reasoning: accuracy within and beyond the training distribution, and the length at which it breaks down.

Each score is shown beside baselines that need no reasoning: a guess, the most common answer, and the most common answer after one token
(evals/rows.py).
"""

from collections.abc import Mapping

import numpy as np

from assay.core.number import apart
from assay.diagnostics.measurement import HIGHER, POINT, SHARE, Measurement, Plot, inapplicable, sample
from assay.diagnostics.statistics import parts_of
from assay.diagnostics.subject import Answers, Subject, farther
from assay.evals.rows import LOWER_IS_BETTER, baselines

GROUP = "reasoning"
ABOVE = "above_baseline"
NAMES = ("in_distribution", ABOVE, "out_of_distribution", "half_length")
LEARNT = 0.1  # minimum score above a baseline for a half length to be meaningful
PARTS = 12  # maximum number of points of a curve


def reasoning(subject: Subject) -> list[Measurement]:
    """Measures tasks that read tokens and answer in tokens. One class for the whole input belongs to the group generalisation."""
    if not reasons(subject):
        reason = "one answer for a whole input has no steps to count" if subject.task.vocabulary.pooled else "several heads answer"
        return [inapplicable(GROUP, name, f"does not apply: {reason}.") for name in NAMES]
    split = _within(subject)
    inside = subject.answers(split)
    percent = f"{100 * inside.mean:.1f} %"
    what = subject.headline.replace("_", " ")
    rows = [
        within := sample(
            GROUP,
            NAMES[0],
            inside.statistic,
            inside.scores(split),
            {split: inside.groups},
            subject.right,
            unit="fraction",
            how=f"{what} on {len(inside.ids)} examples of the split {split}, spread over its lengths",
            meaning=f"Accuracy on inputs like those of training is {percent} ({what}).",
            better=HIGHER,
            margin=POINT,
            measures=subject.headline,
            fact=f"the answers on {split}",
            plot=_by_length(inside, subject.headline),
        ),
        above_baseline(GROUP, subject, split, inside, within),
    ]
    beyond = [name for name in farther(subject.task) if name != split]
    if subject.choosing and subject.task.shifted:  # the only shifted inputs are those used for measuring
        beyond = []
    if not beyond:
        reason = "does not apply: the task has no longer, deeper or otherwise shifted inputs beyond training."
        return [*rows, *(inapplicable(GROUP, name, reason) for name in NAMES[2:])]
    outside = subject.answers(beyond[0])
    score = outside.mean
    known = baselines(inside.records, subject.task, subject.headline)
    rows.append(
        sample(
            GROUP,
            NAMES[2],
            outside.statistic,
            outside.scores(beyond[0]),
            {beyond[0]: outside.groups},
            subject.right,
            unit="fraction",
            how=f"{what} on {len(outside.ids)} examples of the split {beyond[0]}, beyond the training distribution",
            meaning=f"Accuracy is {100 * score:.1f} % beyond the training distribution and {percent} within it.",
            better=HIGHER,
            margin=POINT,
            measures=subject.headline,
            fact=f"the answers on {beyond[0]}",
            plot=_by_length(outside, subject.headline),
        )
    )
    return [*rows, _half(subject, split, inside, beyond[0], outside, max(known.values(), default=0.0))]


def reasons(subject: Subject) -> bool:
    """Returns whether the task reads tokens and answers in tokens."""
    return bool(subject.tokens) and not subject.task.vocabulary.pooled and not subject.task.vocabulary.heads


def beside(answers: Answers, known: Mapping[str, float], headline: str) -> Plot:
    """Plots a score beside baselines that need no model."""
    values, error = {"the model": answers.mean, **known}, headline in LOWER_IS_BETTER
    label, factor = headline.replace("_", " ") + ("" if error else " (%)"), 1.0 if error else 100.0
    shown = [float(f"{factor * value:.5g}") for value in values.values()]
    return Plot("bar", list(range(len(values))), {"score": shown}, "", label, list(values))


def above_baseline(group: str, subject: Subject, split: str, inside: Answers, within: Measurement) -> Measurement:
    """Returns the score `within` minus the best baseline, or for an error the constant's error minus it; its interval shifts alike."""
    known = {} if subject.task.members else baselines(inside.records, subject.task, subject.headline)
    if not known:
        return inapplicable(group, ABOVE, f"does not apply: no baseline is known for {subject.headline}.")
    error = subject.headline in LOWER_IS_BETTER
    name = min(known, key=lambda one: known[one]) if error else max(known, key=lambda one: known[one])
    listed = ", ".join(f"{one} {value:.4g}" if error else f"{one} {100 * value:.1f} %" for one, value in known.items())
    if error:
        value = known[name] - inside.mean
        ends = within.interval and (known[name] - within.interval[1], known[name] - within.interval[0])
        how = f"the error of the best constant answer minus the model's: {listed}"
        meaning = f"The error is {apart(-value, '')} that of the best constant answer."
        found = Measurement(
            group, ABOVE, value, n=within.n, interval=ends, how=how, meaning=meaning, better=HIGHER, margin=SHARE, relative=True
        )
        return found._replace(measures=subject.headline, fact=f"the answers on {split}", caution=within.caution)
    ends = within.interval and (within.interval[0] - known[name], within.interval[1] - known[name])
    found = sample(
        group,
        ABOVE,
        inside.statistic,
        inside.scores(split) | {f"{split}/score": inside.columns["score"] - known[name]},
        {split: inside.groups},
        unit="fraction",
        how=f"the score minus the best baseline of: {listed}",
        meaning=f"The score is {apart(inside.mean - known[name], 'fraction')} the baseline '{name}', which needs no "
        f"{'reasoning' if group == GROUP else 'input'}.",
        better=HIGHER,
        margin=POINT,
        measures=subject.headline,
        fact=f"the answers on {split}",
        plot=beside(inside, known, subject.headline) if group == GROUP else None,  # the score has it already
    )
    return found._replace(interval=ends, caution=within.caution)


# -- private --------------------------------------------------------------------------------------------------------------


def _within(subject: Subject) -> str:
    """Returns the split whose inputs follow the training distribution."""
    beyond = farther(subject.task)
    return "valid" if subject.split in beyond and "valid" in subject.task.splits else subject.split


def _half(subject: Subject, split: str, inside: Answers, beyond: str, outside: Answers, guessed: float) -> Measurement:
    """Measures the length from which at most half of the score at the shortest lengths remains, above the baseline `guessed`."""
    length = np.concatenate([inside.columns["length"], outside.columns["length"]])
    if len(np.unique(outside.columns["length"])) < 2 and len(np.unique(length)) < 4:
        return inapplicable(GROUP, NAMES[3], "does not apply: the tested inputs have too few different lengths.")
    both = np.concatenate([inside.columns["score"], outside.columns["score"]])
    shortest = np.argsort(length, kind="stable")[: max(8, len(length) // 16)]
    if both[shortest].mean() - guessed < LEARNT:
        return inapplicable(
            GROUP, NAMES[3], "does not apply: the score at the shortest inputs does not exceed the baseline, so it cannot halve."
        )
    found = sample(
        GROUP,
        NAMES[3],
        "half_length",
        {f"{split}+{beyond}/length": length, f"{split}+{beyond}/score": both - guessed},
        {f"{split}+{beyond}": _clusters(inside, outside)},
        unit="tokens"
        if subject.task.name not in ("arithmetic/nested",) and not subject.task.name.startswith(("ctl/", "listops/"))
        else "levels",
        how=f"averages over neighbouring lengths of {split} and {beyond}, minus the baseline of {100 * guessed:.1f} %; "
        f"tested lengths: {length.min():.0f} to {length.max():.0f}",
        better=HIGHER,
    )
    longest = float(length.max())
    if found.value is not None and found.value > longest:
        said = f"The score above the baseline stays over half of its value at the shortest inputs, up to the longest ({longest:.0f})."
    else:
        said = f"From length {found.value:.0f} on, the score above the baseline is at most half of its value at the shortest inputs."
    return found._replace(meaning=said, margin=0.05, relative=True, plot=_curve(length, both, f"{subject.headline.replace('_', ' ')} (%)"))


def _clusters(inside: Answers, outside: Answers) -> np.ndarray | None:
    """Returns the cluster of each example of both splits; None unless both have clusters."""
    if inside.groups is None or outside.groups is None:
        return None
    return np.concatenate([inside.groups, outside.groups])


def _by_length(answers: Answers, headline: str) -> Plot:
    """Plots the score by length, or a single bar if all examples have one length."""
    length = answers.columns["length"]
    if len(np.unique(length)) < 2:
        return beside(answers, {}, headline)
    return _curve(length, answers.columns["score"], f"{headline.replace('_', ' ')} (%)")


def _curve(length: np.ndarray, score: np.ndarray, label: str) -> Plot:
    """Plots averages over neighbouring lengths."""
    parts = parts_of(length, PARTS)
    x = [round(float(length[part].mean()), 2) for part in parts]
    return Plot("line", x, {"score": [round(100 * float(score[part].mean()), 3) for part in parts]}, "length", label)
