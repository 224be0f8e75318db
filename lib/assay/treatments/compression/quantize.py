"""Quantization: stores matrices as 8-bit or 4-bit integers and scales, with qwix (`pip install "assay[compress]"`).

W ~ scale * q,  scale = max |W| / (2^(bits - 1) - 1/2)      over the weights that share a scale

--config.treatments=inherit:from=runs/trained,quantize:int8            weights only, one scale per output
...,quantize:int4,block=64                                             one scale per 64 weights along the contracted axis
...,quantize:int8,activations=dynamic                                  also the inputs of dense layers; `static`: scales from `valid`
...,quantize:int4,method=gptq                                          uses training examples (treatments/compression/calibrate.py); or awq
quantize:int4,train=True            quantization-aware training (Jacob et al. 2018, arXiv 1712.05877); quantize in a later stage
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
    """Returns the quantization treatment.

    Args:
        form: int8, int4, nf4 or fp8.
        block: number of weights along the contracted axis that share a scale; 0, or if it does not divide the axis: one scale per output.
        activations: none, dynamic or static; whether and how the inputs of dense layers are quantized.
        method: round, gptq or awq.
        train: whether to keep the parameters and compute with their rounded values.
        paths: regex of the quantized parameter paths.
        examples: number of examples that GPTQ, AWQ and static scales read.

    Raises UserError for invalid options and if qwix is not installed. nf4 and fp8 exclude quantized activations, GPTQ and AWQ. `train`
    excludes GPTQ, AWQ and static scales.
    """
    check(form in FORMS, "quantize", "form", form, f"one of {', '.join(FORMS)}")
    check(block >= 0, "quantize", "block", block, "a number of weights, or 0 for one scale per output")
    check(activations in ACTIVATIONS, "quantize", "activations", activations, f"one of {', '.join(ACTIVATIONS)}")
    check(method in METHODS, "quantize", "method", method, f"one of {', '.join(METHODS)}")
    check(
        form in WHOLE or activations == "none", "quantize", "activations", activations, f"{form} is not an integer format; use int8 or int4"
    )
    check(form in WHOLE or method == "round", "quantize", "method", method, f"{form} is not an integer format; use int8 or int4")
    check(
        not train or method == "round", "quantize", "method", method, "training always rounds; set the method in the stage that quantizes"
    )
    check(
        not train or activations != "static",
        "quantize",
        "activations",
        activations,
        "static scales are not available in training; use dynamic",
    )
    check(examples >= 1, "quantize", "examples", examples, "it must be at least 1")
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
