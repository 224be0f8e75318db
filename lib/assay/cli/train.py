"""From a command line to finished folders: one run, or a study of several side by side, each with its results and its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from assay import config as configs
from assay.core.errors import UserError
from assay.diagnostics.attention import picture
from assay.dist import launch
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.rows import mean_rows
from assay.reports.run import RunView, read_run, render
from assay.reports.terminal.run import print_table
from assay.train import loop
from assay.train.measure import labels_of, measure
from assay.train.state import final_params
from assay.train.workdir import WorkDir, write_text
from assay.treatments.pipeline.load import load, rebuild, restore, treatments


def run(
    spec: str,
    overrides: Mapping[str, str],
    workdir: str | Path,
    quiet: bool = False,
    summary: bool = True,
    from_step: int | None = None,
    profile: bool = False,
) -> None:
    """Trains, evaluates and reports one run; a finished one is only printed, unless it shall go on from a step. Raises UserError."""
    config = configs.override(configs.load(spec), overrides)
    folder = WorkDir(workdir)
    folder.check_parts()
    before, missing = folder.results.stat().st_mtime_ns if folder.results.exists() else None, not folder.report.exists()
    loop.run(config, str(workdir), treatments(config.treatments), configs.experiment_name(spec), quiet, from_step, profile)
    if missing or folder.results.stat().st_mtime_ns != before:  # every process: they draw the picture of attention together
        report(workdir)
    if summary and not quiet and launch.leader():
        print_table([read_run(workdir)])
        print(f"report: {folder.report}")
        if profile and folder.profile.is_dir():
            print(f"trace: {folder.profile} (TensorBoard's profile plugin or xprof reads it)")
        elif profile:
            print("no step was taken, so none is traced. Take a new --workdir, or --from_step.")


def report(workdir: str | Path, command: str = "") -> None:
    """Writes report.html of one run, with the command that makes it again; not given: that of a run that was trained from its config."""
    folder = WorkDir(workdir)
    view = read_run(workdir)
    if not command:
        command = f"python -m experiments.main --config=experiments/{view.config['experiment'].replace(':', '.py:')} --workdir={workdir}"
    view = view._replace(attention=picture(*load(workdir)))
    write_text(folder.report, render([view], view.config["experiment"], command))


def evaluate(
    workdir: str | Path, splits: Sequence[str], lengths: Sequence[str], changes: Mapping[str, float], overrides: Mapping[str, str]
) -> None:
    """Evaluates more splits of a run that is there, and joins their rows to its results. Raises UserError."""
    if overrides:
        known = "--lengths, --split, --per_length, --batch_size, --samples, --temperature"
        raise UserError(f"evaluate takes no --config overrides: the run's own hold. Use {known}.")
    ranges = [f"{first}-{last}" for first, last in (configs.span(text, "--lengths") for text in lengths)]
    wanted = [*splits, *ranges]
    if not wanted:
        raise UserError("nothing to evaluate: give --lengths=FIRST:LAST or --split=NAME.")
    launch.start()
    folder = WorkDir(workdir)
    before = folder.read_results()["rows"] if folder.results.exists() else []
    try:
        made = rebuild(workdir, {"evaluate": {"splits": wanted, **changes}})
    except UserError as error:  # its keys are flags here
        raise UserError(str(error).replace("--config.evaluate.splits", "--lengths").replace("--config.evaluate.", "--")) from None
    state = restore(made, workdir)
    labels = labels_of(made, folder.read_config()["experiment"])._replace(steps=int(state.step))
    rows = measure(made, folder, final_params(state, made.treatment)["model"], make_mesh(MeshConfig(-1, 1, 1)), labels)
    replaced = {row["split"] for row in rows}
    folder.write_results([*(row for row in before if row["split"] not in replaced), *rows])
    report(workdir)
    if launch.leader():
        print_table([read_run(workdir)._replace(rows=rows)])
        print(f"report: {folder.report}")


def study(specs: Sequence[str], seeds: Sequence[int], overrides: Mapping[str, str], workdir: str | Path) -> None:
    """Trains each missing run in `workdir/<variant>/seed_<n>`, and writes the joined results.json and report.html. Raises UserError."""
    root = Path(workdir)
    if "seed" in overrides:
        raise UserError("a study takes its seeds from --seeds=FIRST:LAST, not from --config.seed.")
    if (root / "config.json").exists():
        raise UserError(f"{root} holds a single run. Give the study another --workdir.")
    names = [label(spec) for spec in specs]
    if len(set(names)) < len(names):
        raise UserError(f"two configs have the same name ({', '.join(names)}), so their runs would share a folder. Give each once.")
    planned = []
    for spec, name in zip(specs, names, strict=True):  # every config is checked before the first run starts
        for seed in seeds:
            config = configs.override(configs.load(spec), {**overrides, "seed": str(seed)})
            planned.append((spec, name, config, treatments(config.treatments), root / name / f"seed_{seed}"))
    views = []
    for spec, name, config, treated, path in planned:
        loop.run(config, str(path), treated, configs.experiment_name(spec))
        views.append(read_run(path, name))
    views = _with_picture(views, [path for *_, path in planned])
    means = mean_rows([row for view in views for row in view.rows])
    shown = views + [RunView(name, {}, [row for row in means if label(row["experiment"]) == name], [], {}) for name in names if means]
    rows = [row for view in views for row in view.rows] + means
    command = " ".join(
        ["python -m experiments.study", *(f"--config={spec}" for spec in specs), f"--seeds={seeds_text(seeds)}"]
        + [f"--config.{key}={value}" for key, value in overrides.items()]
        + [f"--workdir={workdir}"]
    )
    WorkDir.write_json(root / "results.json", {"schema": 1, "rows": rows, "environment": views[0].environment, "command": command})
    task = views[0].rows[0]["task"] if views and views[0].rows else "study"
    write_text(root / "report.html", render(shown, task, command))
    if launch.leader():
        print_table(shown)
        print(f"report: {root / 'report.html'}")


def label(spec: str) -> str:
    """The name of a config in a study: its variant, or its file's stem."""
    name = configs.experiment_name(spec) if ".py" in spec else spec
    return (name.rpartition(":")[2] if ":" in name else name.rpartition("/")[2]).replace(",", "-")


def seeds_of(text: str) -> list[int]:
    """`0:4` -> 0 to 4, both included; `0,2` -> 0 and 2. Raises UserError."""
    try:
        first, colon, last = text.partition(":")
        seeds = list(range(int(first), int(last) + 1)) if colon else [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds={text!r} names no seeds. Write FIRST:LAST, both included, such as 0:4, or a list such as 0,2.")
    return sorted(set(seeds))


def seeds_text(seeds: Sequence[int]) -> str:
    consecutive = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}:{seeds[-1]}" if consecutive else ",".join(map(str, seeds))


def _with_picture(views: list[RunView], paths: Sequence[Path]) -> list[RunView]:
    """One attention picture for the page: of the last run that has attention, since treated runs are named last."""
    first_seeds = {view.label: i for i, view in reversed(list(enumerate(views)))}
    for i in sorted(first_seeds.values(), reverse=True):
        drawn = picture(*load(paths[i]))
        if drawn is not None:
            views[i] = views[i]._replace(attention=drawn)
            break
    return views
