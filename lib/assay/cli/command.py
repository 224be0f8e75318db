"""Starts and ends a verb: parses absl flags and `--config.KEY=VALUE` overrides, prints `--help`, and reports an error as one message.

Exit codes: 0 success; 1 another process of the run has died; 2 a mistake that the user can fix, reported in one message without a
traceback; 128 + n stopped by signal n.
"""

import io
import os
import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import app, flags

from assay.cli.main import flush
from assay.config import modules
from assay.core.errors import Alone, SaveError, Terminated, UnknownName, UserError

OVERRIDE = "--config."
PATHS = ("workdir", "from", "before", "after", "out", "input", "readme", "config", "copy", "treat")  # flags whose values may start with ~
IMPORT = "import"
SHARED = {  # flags of every verb; environment variables pass them to assay.dist.launch
    "coordinator": "Address HOST:PORT of process 0 of a run in several processes; auto detects it under Slurm, on TPUs and so on.",
    "processes": "Number of processes of the run.",
    "process": "Index of this process, from 0.",
}
MODULE = "Python module, or ./FILE.py, that registers models, tasks, treatments, diagnostics or metrics of your own"
FOLDERS = ("workdir", "from", "before", "after")  # flags that may name a run


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separates `--config.KEY=VALUE` (or `--config.KEY VALUE`) from a command line. Returns (the rest, {KEY: VALUE})."""
    rest: list[str] = []
    overrides: dict[str, str] = {}
    waiting = None
    for argument in arguments:
        if waiting:
            overrides[waiting], waiting = argument, None
        elif argument.startswith(OVERRIDE):
            key, equals, value = argument.removeprefix(OVERRIDE).partition("=")
            if not key:
                raise UserError(f"{argument!r} names no key. Write --config.KEY=VALUE.")
            if equals:
                overrides[key] = value
            else:
                waiting = key
        else:
            rest.append(argument)
    if waiting:
        raise UserError(f"--config.{waiting} has no value. Write --config.{waiting}=VALUE.")
    return rest, overrides


def launch(
    main: Callable[..., None],
    usage: str,
    required: Sequence[str] = (),
    subjects: Sequence[str] = (),
    given: flags.FlagValues = flags.FLAGS,
    files: bool = False,
) -> None:
    """Parses absl's flags and runs `main(overrides)`. Exits the process on failure.

    Args:
      main: the verb. With `subjects` it is called as `main(overrides, subject)`.
      usage: the verb's docstring, which --help prints.
      required: names of the required flags.
      subjects: the words allowed as the first argument.
      given: the verb's own flags. Each verb of the package has its own, so that one process can import all of them.
      files: True for a verb whose arguments without a flag are files. It is called as `main(overrides, files)`.
    """

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal or pipe may not have every character
    given.unparse_flags()
    for name, about in SHARED.items():
        if name not in given:
            flags.DEFINE_string(name, "", about, flag_values=given)
    if IMPORT not in given:
        flags.DEFINE_multi_string(IMPORT, [], MODULE, flag_values=given)
    if given is not flags.FLAGS:
        flags.FLAGS.append_flag_values(given)

    def parse(arguments: Sequence[str]) -> list[str]:
        if any(argument in ("--help", "-h", "-help", "--helpshort") for argument in arguments[1:]):
            print(f"{usage.strip()}\n\nFlags:\n{_described(given)}")
            sys.exit(0)
        rest, overrides = split_overrides(arguments)
        left = _parsed(rest)[1:]
        given.mark_as_parsed()
        for name in PATHS:
            value = given[name].value if name in given else None
            if value:
                given[name].value = [os.path.expanduser(one) for one in value] if isinstance(value, list) else os.path.expanduser(value)
        if subjects and (not left or left[0] not in subjects):
            raise UserError(f"expected one of {', '.join(subjects)} first, got {left[0] if left else 'nothing'!r}. See --help.")
        subject, left = left[: len(subjects[:1])], left[len(subjects[:1]) :]
        if left and not files:
            raise UserError(f"unexpected argument {left[0]!r}. Flags are written --name=value; --help lists them.")
        missing = [f"--{name}" for name in required if not given[name].value]
        if missing:
            raise UserError(f"missing {' and '.join(missing)}. See --help.")
        for name in SHARED:
            if given[name].value:
                os.environ[f"ASSAY_{name.upper()}"] = str(given[name].value)
        modules.load(given[IMPORT].value or ())
        main(overrides, *subject, *([left] if files else []))
        return list(arguments[:1])

    for stream in (sys.stdout, sys.stderr):  # names of files, and texts of data, may hold what the terminal's encoding does not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app.run(lambda _: None, flags_parser=parse)
    except SaveError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)
    except UserError as error:
        print(f"error: {error}{_missing(given) if isinstance(error, UnknownName) else ''}", file=sys.stderr)
        sys.exit(2)
    except flags.Error as error:
        print(f"error: {error}. --help lists the flags.", file=sys.stderr)
        sys.exit(2)
    except Terminated as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.number)
    except Alone as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {os.fspath(error.filename)!r} cannot be used: {error.strerror or error}. Give another path.", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory")):
            raise  # neither Python's nor XLA's
        told = next(iter(str(error).splitlines()), "the system gives no more").rstrip(".")
        print(
            f"error: not enough memory ({told}). Reduce --config.train.batch_size, the sizes in --config.model, or those in --config.task.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    finally:
        flush()
        if given is not flags.FLAGS:
            flags.FLAGS.remove_flag_values(given)


# -- private --------------------------------------------------------------------------------------------------------------


def _parsed(arguments: Sequence[str]) -> list[str]:
    """Returns what absl's flags leave of a command line. Raises UserError for a --flagfile that cannot be read."""
    for argument in arguments:
        if argument.lstrip("-").startswith("flagfile=") and argument.startswith("-"):
            path = os.path.expanduser(argument.partition("=")[2])
            if os.path.exists(path) and not os.path.isfile(path):
                raise UserError(f"--flagfile={path} is not a regular file. It holds flags, one a line.")
    try:
        return flags.FLAGS(arguments)
    except UnicodeDecodeError as error:
        raise UserError(f"the file of --flagfile is not text ({error}). It holds flags, one a line.") from None


def _missing(given: flags.FlagValues) -> str:
    """Returns which modules the runs that the flags name were trained with, and this command does not import; or ""."""
    named = [given[name].value for name in FOLDERS if name in given]
    folders = [one for value in named for one in (value if isinstance(value, list) else [value]) if one]
    return next(filter(None, map(modules.needed, folders)), "")


def _described(given: flags.FlagValues) -> str:
    """Returns the help of each flag. The flags that every verb has come last."""
    if given is flags.FLAGS:
        return str(given.module_help(sys.argv[0]))
    lines = []
    shared = (IMPORT, *SHARED)
    for name in [*(name for name in given if name not in shared), *shared]:
        flag = given[name]
        default = "" if flag.default in (None, "", []) else f" (default: {flag.default_as_str})"
        lines += textwrap.wrap(f"--{name}: {' '.join(flag.help.split())}{default}", 110, initial_indent="  ", subsequent_indent="      ")
    return "\n".join(lines)
