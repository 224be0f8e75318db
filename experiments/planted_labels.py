"""Are wrong labels found? Plants them in data sets, and measures how far up the search for suspect labels ranks them.

    python -m experiments.planted_labels --data=digits --data=reviews.csv --out=experiments/results/bench/planted_labels.json

--data is what `assay fit` reads, `digits` (of scikit-learn), or a folder with the files of MNIST or Fashion-MNIST (idx, gzipped), of which
the first 5,000 pictures are used. 5 % of the labels of all parts are changed to another class, uniformly, and every row is ranked by
one minus the probability that the simple learner gives to its label out of fold (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068).
The bar: an AUROC of at least 0.9 on every data set and seed. Cost: 2 minutes for 11,000 texts of 20 classes, seconds for pictures.
"""

import gzip
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from assay.cli.command import launch
from assay.cli.fit import Asked, looked
from assay.config.schema import to_dict
from assay.data.files.table import column_of, size
from assay.fitting.issues.rows import classes_of, gathered
from assay.fitting.issues.search import suspicion
from assay.tasks.files.opened import Opened
from assay.tasks.table import build
from assay.train.workdir import environment, write_text

FLAGS = flags.FlagValues()
DATA = flags.DEFINE_multi_string("data", ["digits"], "A data set; may be repeated.", flag_values=FLAGS)
OUT = flags.DEFINE_string("out", "", "JSON file for the result; if empty, it is only printed.", flag_values=FLAGS)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds, from 0.", lower_bound=1, flag_values=FLAGS)

FLIPPED, BAR, PICTURES = 0.05, 0.9, 5_000
IDX = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


def planted(found: Opened, seed: int) -> tuple[Opened, np.ndarray]:
    """Returns the data set with changed labels, and which rows were changed, bool [rows of all parts]."""
    random, target = np.random.default_rng(seed), found.roles.target
    cells = classes_of(gathered(found)).tolist()
    changed = np.zeros(len(cells), bool)
    changed[random.choice(len(cells), round(FLIPPED * len(cells)), replace=False)] = True
    for row in np.flatnonzero(changed).tolist():
        cells[row] = random.choice([name for name in found.classes if name != cells[row]])
    parts, start = {}, 0
    for name, table in found.parts.items():
        columns = {**table.columns, target: column_of(cells[start : start + size(table)])}
        parts[name], start = type(table)(columns, table.lines, table.source), start + size(table)
    return found._replace(parts=parts), changed


def ranked(score: np.ndarray, changed: np.ndarray) -> dict[str, Any]:
    """Returns the AUROC with its 95 % interval (DeLong, DeLong and Clarke-Pearson 1988), and the precision among the surest."""
    from scipy.stats import rankdata

    n, wrong = len(score), int(changed.sum())
    ranks = rankdata(score)
    above = (ranks[changed] - rankdata(score[changed])) / (n - wrong)  # share of unchanged rows below each changed one
    below = 1 - (ranks[~changed] - rankdata(score[~changed])) / wrong
    value, deviation = above.mean(), np.sqrt(above.var(ddof=1) / wrong + below.var(ddof=1) / (n - wrong))
    ends = [float(np.clip(value + sign * 1.96 * deviation, 0, 1)) for sign in (-1, 1)]
    first = float(changed[np.argsort(-score, kind="stable")[:wrong]].mean())
    return {"n": n, "changed": wrong, "auroc": float(value), "interval": ends, "precision": first}


def opened(data: str, folder: Path) -> tuple[Any, Opened]:
    """Returns the config and the data set. Pictures that are no files yet become files below `folder`."""
    if data == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return looked(_folder(folder / "digits", digits.images * 15.9, digits.target), Asked())
    if all((Path(data) / name).exists() for name in IDX):
        images, labels = (gzip.decompress((Path(data) / name).read_bytes()) for name in IDX)
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)[:PICTURES]
        return looked(_folder(folder / "idx", pixels, np.frombuffer(labels, np.uint8, offset=8)[:PICTURES]), Asked())
    return looked(data, Asked())


def main(overrides: dict[str, str]) -> None:
    del overrides
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for data in DATA.value:
            config, found = opened(data, Path(folder))
            task = build(to_dict(config), 0)
            for seed in range(SEEDS.value):
                given, changed = planted(found, seed)
                begun = time.monotonic()
                score = suspicion(given, task)
                seconds = round(time.monotonic() - begun, 1)
                rows.append({"data": Path(data).name, "seed": seed, **ranked(score, changed), "seconds": seconds})
                print(json.dumps(rows[-1]), file=sys.stderr)
    names = " ".join(f"--data={Path(data).name}" for data in DATA.value)
    command = f"python -m experiments.planted_labels {names} --seeds={SEEDS.value}"
    held = all(row["auroc"] >= BAR for row in rows)
    text = json.dumps({"command": command, "environment": environment(), "bar": BAR, "held": held, "rows": rows}, indent=1)
    if OUT.value:
        write_text(Path(OUT.value), text + "\n")
    print(text)


# -- private --------------------------------------------------------------------------------------------------------------


def _folder(path: Path, images: np.ndarray, labels: np.ndarray) -> str:
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        (path / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(image).astype(np.uint8)).save(path / str(label) / f"{number}.png")
    return str(path)


if __name__ == "__main__":
    launch(main, __doc__, given=FLAGS)
