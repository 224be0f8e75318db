"""How often is a verdict wrong? Draws cards, comparisons and intervals whose truth is known, and judges them by the real functions.

    python -m experiments.calibration_of_tests --out=experiments/results/bench/calibration_of_tests.json
    python -m experiments.calibration_of_tests --cards=100 --trials=200           (a rough look in a minute)

Writes the tables to --out, and beside it as a page, NAME.md. The same command resumes a stopped one from NAME.jsonl.
Cost: an hour on two cores. Four tables, each with its bar:

    cards        any row better or worse, and "no difference", for two models that differ by 0 to 5 points, on n examples
    seeds        better or worse between studies of one recipe, for 2 to 10 seeds
    power        a true gain of 2 points on 512 examples that is called better, beside exact McNemar's power
    intervals    how often the interval of a mean holds the truth: shares, losses with heavy tails, groups, few examples
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from absl import flags

from assay.cli.command import launch
from assay.train.workdir import environment, write_text
from experiments.simulations.cards import card_tasks, power_of_mcnemar
from experiments.simulations.intervals import MEANS, intervals
from experiments.simulations.page import failures, page
from experiments.simulations.seeds import KINDS, SEEDS, seeds

FLAGS = flags.FlagValues()
OUT = flags.DEFINE_string("out", "", "JSON file for the tables; if empty, they are only printed.", flag_values=FLAGS)
CARDS = flags.DEFINE_integer("cards", 300, "A third of the cards of each kind.", lower_bound=1, flag_values=FLAGS)
TRIALS = flags.DEFINE_integer("trials", 1000, "Draws of each kind, of comparisons and intervals.", lower_bound=1, flag_values=FLAGS)
WORKERS = flags.DEFINE_integer("workers", 2, "Processes.", lower_bound=1, flag_values=FLAGS)


def tasks(cards: int, trials: int) -> list[tuple[str, Callable[..., dict[str, Any]], tuple]]:
    found: list[tuple[str, Callable[..., dict[str, Any]], tuple]] = [("cards", *one) for one in card_tasks(cards)]
    found += [("seeds", seeds, (many, n, kind, trials)) for many in SEEDS for n in (20, 128, 512) for kind in KINDS]
    found += [
        ("intervals", intervals, (name, n, 4 * trials if n <= 512 else trials)) for name in MEANS for n in (5, 20, 50, 200, 512, 2000)
    ]
    return found


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows that an interrupted run has written, by task."""
    if not path.exists():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]  # the last may be cut
    write_text(path, "".join(lines))
    return {said["task"]: said["row"] for said in map(json.loads, lines)}


def _call(one: tuple[str, Callable[..., dict[str, Any]], tuple]) -> dict[str, Any]:
    return one[1](*one[2])


def _key(one: tuple[str, Callable[..., dict[str, Any]], tuple]) -> str:
    return f"{one[0]} {one[2]}"


def main(overrides: dict[str, str]) -> None:
    del overrides
    every = tasks(CARDS.value, TRIALS.value)
    partial = Path(OUT.value).with_suffix(".jsonl") if OUT.value else None
    rows = finished(partial) if partial else {}
    left = [one for one in every if _key(one) not in rows]
    with ProcessPoolExecutor(WORKERS.value) as pool:
        for one, row in zip(left, pool.map(_call, left), strict=True):
            rows[_key(one)] = row
            if partial:
                with partial.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"task": _key(one), "row": row}) + "\n")
            print(f"{len(rows)} of {len(every)}: {one[0]} {row}", file=sys.stderr)
    tables: dict[str, list[dict[str, Any]]] = {"cards": [], "seeds": [], "power": [], "intervals": []}
    for one in every:
        table, row = one[0], rows[_key(one)]
        is_power = table == "cards" and (row["n"], row["gain"]) == (512, 0.02) and row["cards"] != 3 * CARDS.value
        if is_power:
            row["exact"] = power_of_mcnemar(row["n"], row["gain"], row["discordant"])
        tables["power" if is_power else table].append(row)
    missed = failures(tables)
    if OUT.value:
        command = f"python -m experiments.calibration_of_tests --cards={CARDS.value} --trials={TRIALS.value}"
        body = {"command": command, "environment": environment(), "missed": missed, **tables}
        write_text(Path(OUT.value), json.dumps(body, indent=1) + "\n")
        write_text(Path(OUT.value).with_suffix(".md"), page(body))
        Path(OUT.value).with_suffix(".jsonl").unlink()
    print("\n".join(missed) or "every bar is met")
    sys.exit(1 if missed else 0)


def start() -> None:
    """Runs the script from the command line."""
    launch(main, __doc__, given=FLAGS)


if __name__ == "__main__":
    start()
