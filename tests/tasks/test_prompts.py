"""Typed inputs: each task over tokens makes the batch of its own test examples from their text, and answers as evaluation does."""

from functools import partial

import jax
import numpy as np
import pytest

from assay.config import transformer
from assay.core.errors import UserError
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.answers import answers
from assay.evals.evaluate import EvaluateConfig, compiled, evaluate, make_answer
from assay.models.families import build as build_model
from assay.models.precision import PrecisionConfig
from assay.tasks.prompts import prompts
from assay.tasks.table import TASKS, build
from assay.treatments.pipeline.load import treatments

OTHERS = (
    "stdlib/",
    "synthetic/",
    "multi",
    "gym/",
    "tfds/",
    "csv",
    "files/",
    "digits",
    "diabetes",
)  # texts, tables, pictures, several tasks
PARTS = ("inputs", "decoder_inputs", "length", "mask", "given")  # of a batch, beside targets


def over_tokens() -> list[str]:
    return [name for name in TASKS if not name.startswith(OTHERS)]


def typed(task, row, count: int) -> str:
    names = [task.symbols[token] if task.symbols else str(token) for token in row[:count].tolist()]
    return ("" if max(map(len, names)) == 1 else " ").join(names)


@pytest.mark.parametrize("name", over_tokens())
def test_a_typed_input_becomes_the_batch_of_the_task(name):
    task = build({"name": name, **TASKS[name].defaults}, 0)
    source = task.source(task.shown)
    length = source.lengths[0] + 3 if source.lengths[1] >= source.lengths[0] + 3 else source.lengths[0]
    found = source.fetch(source.index_of(np.arange(3), length))
    asked = task.asked([typed(task, row, count) for row, count in zip(found.input, found.input_length, strict=True)])
    width = max(task.width(int(found.length.max())), task.width(asked.lengths[1]))
    mine, wanted = task.encode(asked.fetch(np.arange(3)), width), task.encode(found, width)
    given = wanted.get("given", np.ones(1))
    for part in set(PARTS) & set(wanted):
        if part == "mask":  # room for the longest answer
            assert (mine[part] >= wanted[part]).all()
        elif part == "given" or (part == "inputs" and "decoder_inputs" not in wanted) or part == "decoder_inputs":
            read = given > 0 if part != "given" else wanted["mask"] > 0
            np.testing.assert_array_equal(np.where(read, mine[part], 0), np.where(read, wanted[part], 0), err_msg=part)
        elif part != "length" or "decoder_inputs" in wanted:
            np.testing.assert_array_equal(mine[part], wanted[part], err_msg=part)


@pytest.mark.parametrize(
    ("config", "spec", "kind"),
    [
        ({"name": "chomsky/reverse_string"}, "", "decoder"),
        ({"name": "chomsky/parity_check"}, "scratchpad", "decoder"),
        ({"name": "addition", "lengths": "1:4"}, "reverse", "decoder"),
        ({"name": "scan/simple"}, "", "encoder_decoder"),
    ],
)
def test_answers_are_those_of_evaluation(config, spec, kind):
    task = build({**TASKS[config["name"]].defaults, **config}, 0)
    for treatment in treatments([spec] if spec else []):
        task = treatment.task(task)
    model = build_model(
        transformer(kind, depth=1, width=16, mlp=16, heads=2, kv_heads=2).to_dict(),
        task.vocabulary,
        PrecisionConfig("float32", "float32", "float32"),
    )
    params = model.init(
        jax.random.key(3), task.encode(task.source("train").fetch(np.arange(2)), task.width(task.source("train").lengths[1]))
    )
    settings, split = EvaluateConfig((task.shown,), 1, 8, 1), task.shown
    found = evaluate(compiled(make_answer(model, task), mesh := make_mesh(MeshConfig(1, 1, 1))), params, task, split, settings, mesh)[:6]
    texts = [
        typed(task, np.array(record["input"]), len(record["input"])) if isinstance(record["input"], list) else record["input"]
        for record in found
    ]
    for record, answer in zip(found, answers(model, params, task, texts, 4), strict=True):
        said = record["prediction"]
        if isinstance(said, list):
            names = [str(task.classes[one]) if task.classes else str(one) for one in said]
            said = "".join(names[: names.index("END")] if "END" in names else names)
        assert answer["text"] == texts[answer["id"]]
        assert answer["prediction"][: len(said)] == said


def test_symbols_are_separated_or_not():
    made = partial(prompts, name="t", room=lambda tokens: (len(tokens), 1))
    tokens = made(["01 1", " 0 1 1"], symbols=("0", "1")).fetch(np.arange(2))
    np.testing.assert_array_equal(tokens.input, [[0, 1, 1], [0, 1, 1]])
    assert made(["12 3"], symbols=("3", "12")).fetch(np.arange(1)).input.tolist() == [[1, 0]]
    assert made(["a b"], symbols=("a", " "), unknown=2).fetch(np.arange(1)).input.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("chomsky/parity_check", "012", "'2' in input 0 is no symbol of chomsky/parity_check, which has 0 1"),
        ("chomsky/parity_check", " ", "input 0 is empty"),
        ("chomsky/parity_check", 5, "input 0 is 5; chomsky/parity_check reads text"),
        ("chomsky/modular_arithmetic", "1+", "no input has 2 tokens"),
        ("scan/simple", "walk " * 10, "input 0 has 10 tokens; scan/simple reads at most 9"),
        ("addition", "12+345", "both numbers have the same number of digits, such as 012+345"),
        ("addition", "12", "not a sum of two numbers"),
        ("recall/mqar", "k1 v2", "each key once"),
        ("ctl/forward", "3", "no function"),
    ],
)
def test_what_is_no_input_is_refused(name, text, message):
    task = build({"name": name, **TASKS[name].defaults}, 0)
    with pytest.raises(UserError, match="Change --text or --input") as error:
        task.asked([text])
    assert message in str(error.value)
