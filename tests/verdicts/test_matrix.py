"""Every treatment against every family of models: it works, as shapes, or says in a line why it does not apply."""

import re

import pytest

from assay.config.families import families
from assay.core.errors import UserError
from assay.models.families import FAMILIES
from assay.reports.terminal.matrix import print_matrix
from assay.train.experiment import assemble
from assay.treatments.table import FACTORIES
from assay.verdicts.matrix import SPECS, Cell, matrix, tried

OF_THE_TASK = {"couple", "curriculum", "recombine", "reverse", "scratchpad", "supervise", "augment", "balance", "threshold"}
OF_A_RUN = {"init", "inherit"}  # take over what another run has
REFUSED = {  # what no model of a family can have; everything else works
    "prune:heads=0.5": set(FAMILIES) - {"decoder", "encoder", "encoder_decoder"},
    "prune:channels=0.5": set(FAMILIES) - {"cnn", "resnet"},
    "prune:layers=0.5": set(FAMILIES) - {"decoder", "encoder", "encoder_decoder", "resnet", "mlp"},
    "prune:units=0.5": {"automaton", "automata_network", "bag", "resnet"},
    "distill:attention=TAP": set(FAMILIES) - {"decoder", "encoder", "encoder_decoder"},
    "distill:sequence=True": set(FAMILIES) - {"decoder", "encoder_decoder"},  # the others' task here is not answered token by token
    "ensemble:members=2 + quantize:int8": set(FAMILIES),
    "prune:units=0.5 + lowrank:rank=1 + quantize:int8": {"automaton", "automata_network", "bag", "resnet"},
}
CONFIGS = families()


def test_the_table_is_of_all_treatments_and_all_families():
    named = {part.partition(":")[0] for spec in SPECS for part in spec.split(" + ")}
    assert named | OF_THE_TASK | OF_A_RUN == set(FACTORIES) and not named & (OF_THE_TASK | OF_A_RUN)
    assert set(CONFIGS) == set(FAMILIES) and set(OF_TRAINING) < set(SPECS)


# They know no family.
OF_TRAINING = ("average", "accumulate:parts=2", "clip", "smooth", "l1", "l2", "rate:times=0.5,paths=head", "gradients")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_treatment_works_or_says_why_not(family):
    apart = family in ("mlp", "ngram")  # elsewhere those of training are tried together, which saves minutes
    specs = SPECS if apart else (*(spec for spec in SPECS if spec not in OF_TRAINING), " + ".join(OF_TRAINING))
    for cell in matrix({family: CONFIGS[family]}, specs):
        refused = family == "ngram" or family in REFUSED.get(cell.spec, set())
        assert bool(cell.reason) == refused, cell
        assert not refused or (10 < len(cell.reason) < 140 and "\n" not in cell.reason), cell


def test_a_mistake_is_no_reason():
    """Only what does not apply is caught: an option that is wrong stays an error."""
    config = CONFIGS["mlp"]
    with pytest.raises(UserError, match="matches no matrix"):
        tried(config, assemble(config, []), "quantize:int8,paths=nowhere")


def test_reasons_stand_beneath_the_table_once(capsys):
    cells = [Cell("a", "x", ""), Cell("a", "y", "it is round"), Cell("b", "x", "it is round"), Cell("b", "y", "it is [square]")]
    print_matrix(cells)
    out = capsys.readouterr().out
    assert out.count("it is round") == 1 and "it is [square]" in out
    assert re.search(r"^a +yes +a", out, re.MULTILINE) and re.search(r"^b +a +b", out, re.MULTILINE)
