"""Benefits and costs of each compression treatment on digits, passages and SCAN: reproduces the table of
experiments/results/benchmarks.md.

    python -m experiments.compression --workdir=runs/compression --out=experiments/results/bench/compression.json
    python -m experiments.compression --workdir=runs/compression --only=digits

Runs what is missing (about two hours on two cores; repeat the command to resume) and compares the results with thresholds set in advance.
Students, label budgets and temperatures were chosen on `valid` with seed 100, which is not among the seeds that are run.
"""

import json
import subprocess
import sys
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError, unknown
from assay.train.workdir import environment, write_text
from assay.verdicts.claims import change, effect, line, reaches, recovered, times

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "", "Folder for all runs.", flag_values=FLAGS)
ONLY = flags.DEFINE_string("only", "", "Subject to run: digits, passages or scan; empty: all.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "JSON file for the claims; if empty, they are only printed.", flag_values=FLAGS)

TAUGHT = "student=experiments/compress/{}.py:alone,T=1,hard=0.1"
UNLABELLED = "--config.task.unlabelled=True"
STUDY, TREAT = "experiments.study", "experiments.treat"


def study(name: str, variants: tuple[str, ...], seeds: str) -> list[str]:
    """Returns the module and arguments of a study."""
    return [STUDY, *(f"--config=experiments/compress/{name}.py:{variant}" for variant in variants), f"--seeds={seeds}"]


def treat(name: str, *stages: str) -> list[str]:
    """Returns the module and arguments that apply `stages` to the runs in folder `name`; a stage that starts with -- is a flag."""
    return [TREAT, f"--from={name}", *(stage if stage.startswith("--") else f"--treat={stage}" for stage in stages)]


COMMANDS = {  # folder -> the command that creates it
    "digits": study("digits", ("teacher", "alone"), "0:4"),
    "digits_distilled": treat("digits/teacher", f"distill:{TAUGHT.format('digits')}", "--config.task.labels=50", UNLABELLED),
    "digits_prune80": treat("digits/teacher", "prune:sparsity=0.8"),
    "digits_prune90": treat("digits/teacher", "prune:sparsity=0.9"),
    "digits_prune90_ramp": treat("digits/teacher", "prune:sparsity=0.9,ramp=1000,steps=3000,rate=0.002"),
    "digits_wide": study("digits", ("wide",), "0:4"),
    "digits_pipeline": treat("digits_wide/wide", "experiments/compress/digits.py:small"),
    "passages": study("passages", ("teacher", "alone"), "0:4"),
    "passages_distilled": treat(
        "passages/teacher", f"distill:{TAUGHT.format('passages')},cache=True", "--config.task.labels=200", UNLABELLED
    ),
    "passages_heads": treat("passages/teacher", "prune:heads=0.5"),
    "scan": study("scan", ("wide",), "0:2"),
    "scan_heads": treat("scan/wide", "prune:heads=0.5,steps=300"),
    "scan_int8": treat("scan/wide", "quantize:int8"),
    "scan_int4": treat("scan/wide", "quantize:int4,block=64"),
    "scan_int4_channel": treat("scan/wide", "quantize:int4"),
    "scan_pipeline": treat("scan/wide", "experiments/compress/scan.py:small"),
}


def bought(about: str, before: Path, after: Path, points: float | None, smaller: float | None, fast: float | None) -> list[dict]:
    """Returns the changes from the runs in `before` to those in `after`: score in points, size on disk and speed.

    Each comes with its threshold, `bar`, or None. Where the treatment trains, the score is also compared with that of its control. Without
    a value, of a disturbed timing, no threshold is judged.
    """
    found = (
        ("points", points, change(before, after)),
        *((("points, from the control", None, effect(after)),) if any(after.glob("seed_*/stages/*_control")) else ()),
        ("times smaller", smaller, times(after, "smaller")),
        ("times as fast, batches of 64", fast, times(after, "fast")),
        ("times as fast, one example", None, times(after, "quick")),
    )
    return [{"claim": f"{about}, {name}", "bar": bar, "held": reaches(one, bar), **one} for name, bar, one in found]


def claims(root: Path, subject: str) -> list[dict]:
    """Returns a subject's claims with their thresholds (`bar`).

    `held` is True if the value, or the interval end that the threshold refers to, reaches the threshold.
    """
    if subject == "passages":
        share = recovered(root / "passages/teacher", root / "passages/alone", root / "passages_distilled")
        return [
            {"claim": "passages: Transformer to BiLSTM, share recovered", "bar": 0.5, "held": reaches(share, 0.5), **share},
            *bought("passages: half of the heads cut", root / "passages/teacher", root / "passages_heads", -1.0, None, 1.3),
        ]
    if subject == "digits":
        share = recovered(root / "digits/teacher", root / "digits/alone", root / "digits_distilled")
        some, more, ramp = (change(root / "digits/teacher", root / f"digits_prune{name}") for name in ("80", "90", "90_ramp"))
        return [
            {"claim": "digits: CNN to a smaller one, share recovered", "bar": 0.5, "held": reaches(share, 0.5), **share},
            {"claim": "digits: 80 % of the weights pruned, points, lower end", "bar": -1.5, "held": some["interval"][0] >= -1.5, **some},
            {"claim": "digits: 90 % of the weights pruned, points", "bar": None, "held": None, **more},
            {"claim": "digits: 90 % of the weights pruned little by little, points", "bar": None, "held": None, **ramp},
            *(
                {"claim": f"digits: {what}, points, from the control", "bar": None, "held": None, **effect(root / f"digits_prune{name}")}
                for name, what in (("80", "80 % pruned"), ("90", "90 % pruned"), ("90_ramp", "90 % pruned little by little"))
            ),
            *bought("digits: distil, prune, int8", root / "digits_wide/wide", root / "digits_pipeline", -1.0, 10.0, 2.0),
        ]
    wide = root / "scan/wide"
    return [
        *bought("SCAN: half of the heads cut", wide, root / "scan_heads", -1.0, None, 1.3),
        *bought("SCAN: int8 weights", wide, root / "scan_int8", -0.5, 3.8, None),
        *bought("SCAN: int4 weights, blocks of 64", wide, root / "scan_int4", None, 6.5, None),
        *bought("SCAN: int4 weights, one scale a channel", wide, root / "scan_int4_channel", None, 6.5, None),
        *bought("SCAN: distil, prune, int8", wide, root / "scan_pipeline", -1.0, 10.0, 2.0),
    ]


def main(overrides: dict[str, str]) -> None:
    subjects = ("digits", "passages", "scan")
    if overrides:
        raise UserError("compression takes no --config overrides: its commands are fixed.")
    if ONLY.value and ONLY.value not in subjects:
        raise unknown("subject", ONLY.value, subjects, "--only")
    root = Path(WORKDIR.value)
    wanted = [ONLY.value] if ONLY.value else list(subjects)
    for folder, (verb, *words) in COMMANDS.items():
        if folder.partition("_")[0] in wanted:
            placed = [word.replace("--from=", f"--from={root}/") for word in words]
            print(f"-- {folder}", file=sys.stderr)
            if subprocess.run([sys.executable, "-m", verb, *placed, f"--workdir={root / folder}"]).returncode:
                raise UserError(
                    f"the command for {folder} failed; see its message above. Fix it and repeat this command; finished runs are kept."
                )
    found = [claim for subject in wanted for claim in claims(root, subject)]
    for claim in found:
        print(line(claim))
    if OUT.value:
        commands = {folder: " ".join(words) for folder, words in COMMANDS.items()}
        result = {"claims": found, "commands": commands, "environment": environment()}
        write_text(Path(OUT.value), json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    launch(main, __doc__, given=FLAGS, required=("workdir",))
