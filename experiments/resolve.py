"""Resolves the dependencies of `test` with each extra, and of all extras that do not exclude each other, without installing anything.

    python -m experiments.resolve --out=experiments/results/bench/resolve.json          (minutes, and the network)

pyproject.toml says in [tool.assay] which extras exclude each other. Prints a line per set, and exits with 1 where one cannot be resolved.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from assay.cli.command import launch
from assay.core.errors import UserError
from assay.train.workdir import environment, write_text

FLAGS = flags.FlagValues()
OUT = flags.DEFINE_string("out", "", "JSON file for the result; empty: print only.", flag_values=FLAGS)
ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("jax", "flax", "numpy", "protobuf", "orbax-checkpoint", "tensorflow-cpu")


def sets() -> list[tuple[str, ...]]:
    """Returns the sets of extras to resolve: `test` with each other one, and each largest set without two that exclude each other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [name for name in project["project"]["optional-dependencies"] if name != "test"]
    excluded = project["tool"]["assay"]["exclusive_extras"]
    largest = [
        tuple(name for name in extras if name not in set(itertools.chain(*excluded)) - set(kept)) for kept in itertools.product(*excluded)
    ]
    return [*(("test", name) for name in extras), *(("test", *names) for names in largest)]


def resolved(extras: Sequence[str]) -> dict[str, object]:
    """Returns what pip would install for a set of extras: how many packages, and the versions of some; or its error."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", f"--report={report}"]
        began = time.monotonic()
        done = subprocess.run([*command, f"{ROOT}[{','.join(extras)}]"], capture_output=True, text=True)
        seconds = round(time.monotonic() - began, 1)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return {"extras": list(extras), "resolved": False, "error": " ".join(lines)[:500], "seconds": seconds}
        found = {
            one["metadata"]["name"].lower().replace("_", "-"): one["metadata"]["version"]
            for one in json.loads(report.read_text())["install"]
        }
    versions = {name: found[name] for name in SHOWN if name in found}
    return {"extras": list(extras), "resolved": True, "packages": len(found), "versions": versions, "seconds": seconds}


def main(overrides: dict[str, str]) -> None:
    if overrides:
        raise UserError("resolve takes no --config overrides. See --help.")
    rows = []
    for extras in sets():
        rows.append(resolved(extras))
        print(json.dumps(rows[-1]), flush=True)
        if OUT.value:
            write_text(Path(OUT.value), json.dumps({"rows": rows, "environment": environment()}, indent=1) + "\n")
    if not all(row["resolved"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    launch(main, __doc__, given=FLAGS)
