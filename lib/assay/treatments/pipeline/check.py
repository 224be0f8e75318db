"""Checks of a pipeline stage before it is trained."""

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
    """Raises UserError for any mistake in a stage that is detectable without training."""
    made = assemble(stage.config, treatments(stage.config["treatments"]))
    for spec in stage.config["treatments"]:
        if spec.startswith("distill:"):
            named = teachers(parse("distill", distill, spec.partition(":")[2])["from_"], RUNS)
            for teacher in named:
                if WorkDir(teacher.workdir).config.exists():  # an earlier stage of the pipeline does not exist yet
                    check_same(teacher, made.task)
    if made.treatment.given:  # parameters of a teacher that may not exist yet
        return
    batch = made.first_batch()  # traces the shapes: the batch, the model and the training step must agree
    state = jax.eval_shape(made.init_state, made.key, {}, batch)
    if made.settings.train.steps:
        jax.eval_shape(make_step(made.model, made.objective, made.treatment.gradient, made.optimizer), state, batch)
