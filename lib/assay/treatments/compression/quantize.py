"""Quantisation: matrices as whole numbers of 8 or 4 bits and scales, by qwix (`pip install "assay[compress]"`).

W ~ scale * q,  scale = max |W| / (2^(bits - 1) - 1/2)      over the numbers that share a scale

--config.treatments=inherit:from=runs/trained,quantize:int8            weights; one scale for each output
...,quantize:int4,block=64                                             one scale for each 64 numbers of what is summed over
...,quantize:int8,activations=dynamic                                  inputs of dense layers too; `static`: scales from `valid`
...,quantize:int4,method=gptq                                          by training examples (treatments/compression/calibrate.py); or awq
quantize:int4,train=True            training with rounded weights (Jacob et al. 2018, arXiv 1712.05877); quantise in a later stage
"""

from functools import partial

from assay.core.tree import PyTree
from assay.models.model import Model
from assay.tasks.task import Task
from assay.train.treatment import Treatment
from assay.treatments.compression.calibrate import calibrated
from assay.treatments.compression.rounding import ACTIVATIONS, FORMS, METHODS, PATHS, STORED, WHOLE, Spec, library, quantized, rounded
from assay.treatments.option import check


def quantize(
    form: str = "int8",
    block: int = 0,
    activations: str = "none",
    method: str = "round",
    train: bool = False,
    paths: str = PATHS,
    examples: int = 128,
) -> Treatment:
    """Where `block` does not divide a matrix, it has one scale for each output. `examples` are read where data are: for GPTQ, AWQ and
    static scales. With `train` parameters stay as they are, and the model computes with what they would be rounded to.

    Not possible: activations with nf4 or fp8, GPTQ and AWQ with those, and either of them or static scales in training.
    """
    check(form in FORMS, "quantize", "form", form, f"one of {', '.join(FORMS)}")
    check(block >= 0, "quantize", "block", block, "a number of weights, or 0 for one scale an output")
    check(activations in ACTIVATIONS, "quantize", "activations", activations, f"one of {', '.join(ACTIVATIONS)}")
    check(method in METHODS, "quantize", "method", method, f"one of {', '.join(METHODS)}")
    check(form in WHOLE or activations == "none", "quantize", "activations", activations, f"{form} is no whole number; use int8 or int4")
    check(form in WHOLE or method == "round", "quantize", "method", method, f"{form} is no whole number; use int8 or int4")
    check(not train or method == "round", "quantize", "method", method, "training rounds; choose it in the stage that quantises")
    check(not train or activations != "static", "quantize", "activations", activations, "training sees its own inputs; use dynamic")
    check(examples >= 1, "quantize", "examples", examples, "it is at least 1")
    library()
    spec, seen = Spec(form, block, activations, method), list[Task]()
    if train:
        return Treatment(model=partial(rounded, spec=spec, paths=paths), name="quantize")
    arrow = partial(quantized, spec=spec, paths=paths)
    plain = Treatment(model=arrow, frozen=STORED, finished=True, name="quantize")
    if method == "round" and activations != "static":
        return plain

    def remember(task: Task) -> Task:
        seen[:] = [task]
        return task

    def convert(model: Model, params: PyTree) -> PyTree:
        return calibrated(model, params, seen[0], spec, paths, examples)

    return plain._replace(task=remember, convert=convert)
