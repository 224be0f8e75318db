"""What can be seen to be wrong with a stage before it is trained."""

import jax

from assay.train.experiment import assemble
from assay.train.step import make_step
from assay.train.workdir import WorkDir
from assay.treatments.compression.distill import distill
from assay.treatments.compression.teacher import check_same, teachers
from assay.treatments.option import parse
from assay.treatments.pipeline.load import RUNS, treatments
from assay.treatments.pipeline.stages import Stage


def check_stage(stage: Stage) -> None:
    """What can be seen to be wrong with a stage is told before the first is trained. Raises UserError."""
    made = assemble(stage.config, treatments(stage.config["treatments"]))
    for spec in stage.config["treatments"]:
        if spec.startswith("distill:"):
            named = teachers(parse("distill", distill, spec.partition(":")[2])["from_"], RUNS)
            for teacher in named:
                if WorkDir(teacher.workdir).config.exists():  # a stage before this one is not there yet
                    check_same(teacher, made.task)
    if made.treatment.given:  # of a teacher that may not be there yet
        return
    batch = made.first_batch()  # what is trained, and by what, fits
    state = jax.eval_shape(made.init_state, made.key, {}, batch)
    if made.settings.train.steps:
        jax.eval_shape(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), state, batch)
