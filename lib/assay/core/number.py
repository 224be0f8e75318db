"""Formats a number with its unit for pages and terminals.

`number(0.9333, "fraction")` is "93.3 %", and `change(0.012, "fraction")` is "+1.2 points". Numbers have three significant digits; sizes and
times take the prefix that keeps them short. The minus sign is U+2212, as wide as plus.
"""

import math

DASH, MINUS = "\u2013", "\u2212"
DIGITS = 3  # significant digits
LARGE, SMALL = 1e6, 1e-3  # outside this range, a plain number gets a prefix or a power of ten
UP = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
COUNTED = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SYMBOLS = {"bytes": "B", "seconds": "s", "joules": "J", "operations": ""}
DOWN = ((1e-3, "m"), (1e-6, "\u00b5"), (1e-9, "n"))
SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def number(value: float | None, unit: str) -> str:
    """Formats a value with its unit; None and NaN are a dash.

    Fractions are in per cent, bytes in kB or MB (powers of 1,000), short times in ms, operations as "10.6 M".
    """
    if value is None or math.isnan(value):
        return DASH
    sign = MINUS if value < 0 else ""
    return sign + _size(abs(float(value)), unit, "%")


def change(value: float | None, unit: str, relative: bool = False) -> str:
    """Formats a difference, after minus before, with its sign; zero has none.

    Differences of fractions are in (percentage) points, all others in the unit. With `relative`, the value is a share of the earlier value
    (0.12: 12 % more), whatever the unit.
    """
    if value is None or math.isnan(value):
        return DASH
    text = _size(abs(float(value)), "fraction" if relative else unit, "%" if relative else "points")
    sign = "" if text.partition(" ")[0] == "0" else MINUS if value < 0 else "+"
    return sign + text


def from_to(before: float, after: float, unit: str) -> str:
    """Formats a change in words that follow the numbers as printed: "drops from 93.3 % to 81.0 %", "rises from ...", "stays at 93.3 %"."""
    one, other = number(before, unit), number(after, unit)
    return f"stays at {one}" if one == other else f"{'drops' if after < before else 'rises'} from {one} to {other}"


def apart(difference: float, unit: str, more: str = "above", less: str = "below", same: str = "equal to") -> str:
    """Formats a signed difference in words that follow the number as printed: "3.2 points above", "3.2 points below", "equal to"."""
    text = change(abs(difference), unit).removeprefix("+")
    return same if text.partition(" ")[0].strip("0.") == "" else f"{text} {more if difference > 0 else less}"


def duration(seconds: float) -> str:
    """Formats a time as "12.3 s", "4 min 10 s" or "2 h 5 min"."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds / 60), 60)
    return f"{minutes[0]} min {minutes[1]} s" if seconds < 7200 else f"{hours[0]} h {hours[1]} min"


def limits(interval: tuple[float, float] | list[float] | None, unit: str, relative: bool = False, signed: bool = False) -> str:
    """Formats an interval as "91.2 to 95.0 %", with the unit once where both ends share it. With `signed` or `relative`, it is an interval
    of a change.
    """
    if interval is None:
        return DASH
    low, high = (change(end, unit, relative) if signed or relative else number(end, unit) for end in interval)
    shared = low.partition(" ")[2]
    return f"{low.partition(' ')[0]} to {high}" if shared and shared == high.partition(" ")[2] else f"{low} to {high}"


def bounded(limit: float | None, unit: str, bound: str) -> str:
    """Formats a one-sided bound: "at least 61.2 %" for a lower bound, "at most 61.2 %" for an upper one."""
    return f"at {'least' if bound == 'lower' else 'most'} {number(limit, unit)}"


def stated(value: float | None, unit: str, bound: str = "", limit: float | None = None) -> str:
    """Formats a value with its one-sided bound, if any: "65.0 % (at least 61.2 %)"; a value that is the bound: "at least 61.2 %"."""
    if not bound or limit is None:
        return number(value, unit)
    return bounded(limit, unit, bound) if value == limit else f"{number(value, unit)} ({bounded(limit, unit, bound)})"


# -- private --------------------------------------------------------------------------------------------------------------


def _size(value: float, unit: str, percent: str) -> str:
    """Formats a non-negative value."""
    first, _, rest = unit.partition(" ")
    if math.isinf(value):
        return f"\u221e {f'{percent} {rest}' if first == 'fraction' else unit}".strip()
    if first == "fraction":  # also "fraction per doubling"
        return f"{_hundredths(value)} {percent} {rest}".strip()
    if unit in SYMBOLS:
        return _prefixed(value, SYMBOLS[unit], unit)
    if unit.endswith("s") and "/" not in unit and value == 1 and unit != "nats":
        unit = unit[:-1]  # 1 token
    return f"{_plain(value)} {unit}".strip()


def _hundredths(fraction: float) -> str:
    """Formats a fraction in hundredths with one decimal, or more decimals where it would round to 0 or 100 without being equal to it."""
    value = 100 * fraction
    if value >= 1000:
        return f"{value:,.0f}"
    for decimals in (1, 2, 3, 4):
        text = f"{value:.{decimals}f}"
        if float(text) not in (0.0, 100.0):
            return text
        if value in (0.0, 100.0):
            return text.partition(".")[0]
    return "0" if value < 1 else "100"


def _prefixed(value: float, symbol: str, unit: str) -> str:
    """Chooses the prefix that leaves one to three digits before the point. Bytes, operations and whole numbers have no smaller parts."""
    steps = (*UP, (1.0, ""), *(() if unit in ("bytes", "operations") else DOWN))
    if unit == "seconds":
        steps = tuple(step for step in steps if step[0] <= 1)  # no kiloseconds
    if value == 0:
        return f"0 {symbol}".strip()
    size, prefix = next((step for step in steps if float(_digits(value / step[0])) >= 1), steps[-1])
    return f"{_grouped(value / size)} {prefix}{symbol}".strip()


def _plain(value: float) -> str:
    if value == 0:
        return "0"
    if value >= LARGE:
        return _prefixed(value, "", "operations") if value < 1e18 else _power(value)
    return _power(value) if value < SMALL else _grouped(value)


def _grouped(value: float) -> str:
    """Keeps whole numbers and gives others three significant digits; commas separate thousands."""
    if math.isclose(value, round(value), rel_tol=1e-12) or value >= 10**DIGITS - 0.5:
        return f"{round(value):,}"
    return _digits(value)


def _digits(value: float) -> str:
    """Formats three significant digits, never as a power of ten: 0.0123, 1.20, 12.0, 120."""
    if value == 0:
        return "0"
    decimals = DIGITS - 1 - math.floor(math.log10(float(f"{value:.{DIGITS - 1}e}")))
    return f"{value:.{max(0, decimals)}f}"


def _power(value: float) -> str:
    digits, _, exponent = f"{value:.{DIGITS - 2}e}".partition("e")
    return f"{digits} \u00d7 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
