"""Values that a command line may hold and no one should mean: numbers without end, half an expression, letters of other scripts, traps.

A path starts with BOX, which stands for the folder of traps (box.py). Devices are named by links inside it, so that a verb which replaced
the file at a path would replace the link.
"""

BOX = "{box}"
NUMBERS = (
    *("-1", "0", "1", "2", "-0.0", "0.5", "1_000", "0x10", "1e3", "1e-320", "4e9", "4000000000", "9007199254740992", "9223372036854775808"),
    *("1e400", "-1e400", "nan", "inf", "-inf", "\u0663", "\u00b2", "9" * 5000),
)
TEXTS = (
    *(
        "",
        " ",
        "None",
        "true",
        "()",
        "(1,",
        "(1,2)",
        "('iid')",
        "('iid',)",
        "[1,2]",
        "[None]",
        "{}",
        "{'a': 1}",
        "'",
        '"',
        ",",
        ":",
        "=",
        "*",
        "[",
    ),
    *(
        "(" * 500,
        "x" * 300,
        "x" * 70_000,
        "a=b",
        "a:b=c",
        "iid,iid",
        "valid",
        "1:8",
        "8:1",
        "1-4000000000",
        "\\",
        "--",
        "../..",
        "%s%n{}{0}",
    ),
    *("\U0001f9ea\U0001f3fd", "e\u0301\u0323" * 40, "\u202eabc\u202c", "\x01\x1b[31m\x7f", "a\nb", "\tb", "\udcff", "\u2028", "\ufeff"),
)
PATHS = (
    *(
        "",
        "/missing",
        "/file",
        "/pipe",
        "/locked",
        "/locked/new",
        "/loop",
        "/binary",
        "/null",
        "/full",
        "/memory",
        "/empty",
        "/run",
        "/damaged",
    ),
    *(
        "/odd, +=~#e %41",
        "/odd, +=~#e %41/new",
        "/run/config.json",
        "/run/checkpoints",
        "/file/new",
        f"/{'y' * 300}",
        "/mine.py",
        "/mine.py:a",
    ),
    *("/binary.py", "/broken.py", "/texts.csv", "/study"),
)
LINES = (  # words that are not a flag with a value
    *("--", "-", "stray", "--nope=1", "--no", "--=x", "--config.", "--config.=1", "--config..=", "--config.train", "--config.train.steps"),
    *("--config.train=steps:1,steps:2", "--config.no.such.key=1", "--config.seed.x=1", "--undefok=nope", "-v", "\U0001f9ea", "\udcff"),
    *(f"--flagfile={BOX}{path}" for path in ("/missing", "/file", "/pipe", "/binary", "/empty")),
)


def hostile() -> tuple[str, ...]:
    """Returns every value."""
    return (*NUMBERS, *TEXTS, *(f"{BOX}{path}" for path in PATHS), "/", ".", "~nobody/x")
