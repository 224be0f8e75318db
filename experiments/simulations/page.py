"""The bars of simulated verdicts, and their tables as a Markdown page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.stats import at_least
from assay.verdicts.result_file import commit_text
from assay.verdicts.verdict import LEVEL


def failures(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Returns what misses its bar: counts whose exact lower (or upper) 95 % bound lies beyond it."""
    missed = []
    for row in tables["cards"]:
        many = row["cards"]
        if row["gain"] == 0 and at_least(row["any"], many) > LEVEL:
            missed.append(f"equal models, n {row['n']}, {row['kind']}: better or worse in {row['any']} of {many} cards; at most 5 %")
        if abs(row["gain"]) >= 0.015 and at_least(row["same"], many) > 0.025:
            missed.append(f"a difference of {row['gain']}, n {row['n']}: no difference in {row['same']} of {many} cards; at most 2.5 %")
    for row in tables["seeds"]:
        if row["seeds"] >= 3 and at_least(row["called"], row["trials"]) > 0.07:
            missed.append(f"{row['seeds']} seeds, n {row['n']}, {row['kind']}: called in {row['called']} of {row['trials']}; at most 7 %")
    for row in tables["power"]:
        if row["called"] / row["cards"] < 0.9 * row["exact"] - 2 * math.sqrt(row["exact"] * (1 - row["exact"]) / row["cards"]):
            missed.append(f"{row['discordant']:.0%} discordant: power {row['called'] / row['cards']:.2f}, exact McNemar {row['exact']:.2f}")
    for row in tables["intervals"]:
        least = 200 if "losses" in row["values"] else 20
        shown = row["trials"] - row["none"]
        warned = row["caution"] > row["trials"] / 3
        if row["n"] >= least and not warned and 1 - at_least(shown - row["held"], shown) < 0.9:
            missed.append(f"{row['values']}, n {row['n']}: the interval holds the mean in {row['held']} of {shown}; at least 90 %")
    return missed


def page(found: Mapping[str, Any]) -> str:
    """Returns the tables as a Markdown page."""
    lines = [
        "# How often a verdict is wrong",
        "",
        "**" + ("Every verdict keeps what it promises." if not found["missed"] else f"{len(found['missed'])} bars are missed.") + "**",
        _at_worst(found),
        "",
        "Simulated models whose truth is known, judged by the functions that make every card, comparison and interval: "
        f"`{found['command']}`, commit `{commit_text(found['environment'].get('commit'))}`. "
        "Parentheses: exact 95 % intervals of the share. A bar is missed if the one-sided 95 % bound of the share lies beyond it.",
        *(f"- {one}" for one in found["missed"]),
    ]
    titles = {
        "cards": (
            "Cards of one run against another",
            "Equal models: at most 5 % of cards call any row. A difference of 1.5 margins or more "
            "(1.5 points): *no difference* in at most 2.5 %.",
        ),
        "power": ("Power", "A gain of 2 points on 512 examples that the score's row calls better, at least 90 % of exact McNemar's power."),
        "seeds": ("Studies of one recipe", "Better or worse in at most 7 % at 3 and more seeds."),
        "intervals": (
            "Intervals of a mean",
            "At least 90 %: for shares from 20 examples, for losses from 200; otherwise the row says that the "
            "interval may be too narrow, or has none.",
        ),
    }
    for table, (title, bar) in titles.items():
        lines += ["", f"## {title}", "", bar, "", *_table(table, found[table])]
    return "\n".join(lines) + "\n"


def _at_worst(found: Mapping[str, Any]) -> str:
    """Returns the worst share of each kind of wrong verdict, in words."""
    equal = max(row["any"] / row["cards"] for row in found["cards"] if row["gain"] == 0)
    apart = max(row["same"] / row["cards"] for row in found["cards"] if abs(row["gain"]) >= 0.015)
    recipe = max(row["called"] / row["trials"] for row in found["seeds"] if row["seeds"] >= 3)
    return (
        f"At worst, {equal:.1%} of the cards of equal models call some row better or worse, {recipe:.1%} of the comparisons of one recipe "
        f"over three and more seeds do, and a true difference of 1.5 points or more is *no difference* in {apart:.1%}."
    )


def _table(table: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if table == "cards":
        head = (
            "models",
            "examples",
            "true difference (points)",
            "discordant",
            "any row called",
            "score called rightly",
            "score called no difference",
        )
        body = [
            (
                row["kind"],
                row["n"],
                100 * row["gain"],
                f"{row['discordant']:.1%}",
                *(_share(row[key], row["cards"]) for key in ("any", "called", "same")),
            )
            for row in rows
        ]
        body = [(*c[:2], f"{c[2]:+.1f}", c[3], *((c[4], "") if c[2] == 0 else ("", c[5])), c[6]) for c in body]
    elif table == "power":
        head = ("discordant", "called better", "exact McNemar")
        body = [(f"{row['discordant']:.0%}", _share(row["called"], row["cards"]), f"{row['exact']:.1%}") for row in rows]
    elif table == "seeds":
        head = ("studies", "seeds", "examples", "called")
        body = [(row["kind"], row["seeds"], row["n"], _share(row["called"], row["trials"])) for row in rows]
    else:
        head = ("values", "examples", "interval holds the mean", "no interval", "row has a caution")
        body = [
            (
                row["values"],
                row["n"],
                _share(row["held"], row["trials"] - row["none"]),
                f"{row['none'] / row['trials']:.0%}",
                f"{row['caution'] / row['trials']:.0%}",
            )
            for row in rows
        ]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(map(str, cells))} |" for cells in body)]


def _share(hits: int, many: int) -> str:
    if many == 0:
        return ""
    low, high = at_least(hits, many, 0.975), 1 - at_least(many - hits, many, 0.975)
    return f"{hits / many:.1%} ({low:.1%} to {high:.1%})"
