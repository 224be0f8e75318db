"""How a benchmark's worker talks: it makes its work, says so, and then does so many steps for each line that it reads.

Both sides of a comparison speak this, so that their repeats can alternate while neither waits for the other's start. Imports nothing that
only one of them has.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(make: Callable[[str], tuple[Callable[[int], None], dict[str, Any]]]) -> None:
    """`make(name)` -> (run, facts): `run(count)` does so many steps and returns when they are done."""
    run, facts = make(sys.argv[1])
    run(2)  # compiles, warms up
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        count = int(line)
        started = time.perf_counter()
        run(count)
        print(json.dumps((time.perf_counter() - started) / count), flush=True)
