"""Protocol of benchmark workers: a worker prepares its workload, reports facts, and then runs a number of steps per input line.

Both sides of a comparison use it, so their repeats alternate without waiting for each other's startup. This file imports nothing that only
one side has.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(make: Callable[[str], tuple[Callable[[int], None], dict[str, Any]]]) -> None:
    """Serves a workload over stdin and stdout.

    Args:
        make: `make(name)` returns (run, facts). `run(count)` runs `count` steps and returns when they are finished.
    """
    run, facts = make(sys.argv[1])
    run(2)  # compilation and warm-up
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        count = int(line)
        started = time.perf_counter()
        run(count)
        print(json.dumps((time.perf_counter() - started) / count), flush=True)
