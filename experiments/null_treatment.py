"""Does a treatment that does nothing look better because it also trains longer?

    python -m experiments.null_treatment --workdir=runs/null_treatment --out=experiments/results/bench/null_treatment.json

Trains a small CNN on digits for 60 updates, which is too few, over ten seeds; treats each run with `l2:weight=1e-9` for 120 more updates;
and counts the verdicts on the score: against the run before, where those updates show, and against the control, which has them too.
Cost: 25 minutes on one core. Finished runs are kept: repeat the command to resume.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

import assay
from assay.cli.command import launch
from assay.train.workdir import environment, write_text
from assay.verdicts.verdict import BETTER, WORSE

FLAGS = flags.FlagValues()
WORKDIR = flags.DEFINE_string("workdir", "runs/null_treatment", "Folder for all runs.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "JSON file for the result; if empty, it is only printed.", flag_values=FLAGS)
SEEDS = flags.DEFINE_integer("seeds", 10, "Number of seeds, from 0.", lower_bound=1, flag_values=FLAGS)

CONFIG, UPDATES = "experiments/vision/cnn_digits.py:cnn", 60
TREATMENT = "l2:weight=1e-9,steps=120"
SECONDS = 0.5  # for timings, which are not looked at


def of_seed(root: Path, seed: int) -> dict[str, Any]:
    """Returns the scores and verdicts of one seed: the run, its treated run and the control."""
    before, after = root / f"seed_{seed}", root / f"seed_{seed}_treated"
    assay.run(CONFIG, before, {"seed": seed, "train.steps": UPDATES, "evaluate.splits": "test"}, quiet=True)
    if not (after / "stages.json").exists():
        assay.treat(before, TREATMENT, after, seconds=SECONDS)
    for folder in (before, after, after / "stages" / "1_control"):
        if not (folder / "diagnosis.json").exists():
            assay.diagnose(folder, quick=True)
    card = assay.compare(before, after, seconds=SECONDS)
    row = next(row for row in card["rows"] if row["name"] == "score")
    ((name, found),) = row["after"].items()
    control = found["control"]
    low, _ = control["from_before"]["interval"]
    return {
        "seed": seed,
        "n": row["before"]["n"],
        "before": row["before"]["value"],
        "control": control["value"],
        "treated": found["value"],
        "difference": found["difference"],
        "interval": found["interval"],
        "verdict": found["verdict"],
        "called_without_control": low > 0,
        "called": [row["name"] for row in card["rows"] if row["after"][name].get("verdict") in (BETTER, WORSE)],
    }


def main(overrides: dict[str, str]) -> None:
    del overrides
    root, rows = Path(WORKDIR.value), []
    for seed in range(SEEDS.value):
        rows.append(of_seed(root, seed))
        print(json.dumps(rows[-1]), file=sys.stderr)
    verdicts = Counter(row["verdict"] for row in rows)
    told = {"treatment": TREATMENT, "updates": UPDATES, "verdicts": dict(verdicts), "held": not any(row["called"] for row in rows)}
    told["called_without_control"] = sum(row["called_without_control"] for row in rows)
    command = f"python -m experiments.null_treatment --seeds={SEEDS.value}"
    text = json.dumps({"command": command, "environment": environment(), **told, "rows": rows}, indent=1)
    if OUT.value:
        write_text(Path(OUT.value), text + "\n")
    print(text)


if __name__ == "__main__":
    launch(main, __doc__, given=FLAGS)
