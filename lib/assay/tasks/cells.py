"""Every published result that a run can be compared with, by task: `cells()["scan/jump"]`.

A task's own `published` holds the same cells where its keys are those of the source; here they are listed whether or not anything ran.
"""

from collections.abc import Mapping

from assay.tasks.composition import arithmetic, ctl, listops, scan
from assay.tasks.formal import chomsky, chomsky_cells
from assay.tasks.published import Published
from assay.tasks.recall import p_hop


def cells() -> Mapping[str, tuple[Published, ...]]:
    """Returns the cells of each task that has any."""
    found = {f"chomsky/{name}": chomsky_cells.cells(name, chomsky.metrics_of(name)[0]) for name in chomsky.ABOUT}
    found |= {f"scan/{name}": scan.published(name) for name in scan.ABOUT}
    found |= {f"ctl/{name}": ctl.published(name) for name in ctl.ABOUT}
    found |= {"arithmetic/nested": arithmetic.PUBLISHED, "listops/depth": listops.DEPTH_PUBLISHED, "listops/lra": listops.LRA_PUBLISHED}
    found["recall/p_hop"] = tuple(cell for hops in p_hop.HOPS for cell in p_hop.cells(hops))
    return {task: each for task, each in found.items() if each}
