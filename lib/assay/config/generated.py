"""Every key of the tasks with generated examples, with its unit or effect. Example: `reasoning("addition", pad=False)`.

The modules of the tasks check the values: see the dataclass `...Config` of each in `assay/tasks/`. `seed` draws the valid and test examples
and must be the same for all runs being compared; training examples follow the run's own seed.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed
from assay.core.errors import unknown

ADDITION = {
    "lengths": "3:3",  # digits of the operands in training, FIRST:LAST, both included
    "pad": True,  # numbers have leading zeros up to the length, and sums up to one digit more
    "balanced": False,  # training draws each number of carries equally often
    "seed": 0,
}
ARITHMETIC = {
    "lengths": "1:5",  # training depths, FIRST:LAST, both included
    "seed": 0,
}
CHAIN = {
    "vocabulary": 256,  # token ids
    "window": 128,  # tokens per input
    "seed": 0,
}
CHOMSKY = {
    "convention": "code",  # "code" or "paper", where the published code and paper disagree
    "lengths": "1:40",  # training lengths, both included
    "seed": 0,
}
CTL = {
    "lengths": "1:5",  # training numbers of functions, FIRST:LAST, both included
    "tables_seed": 0,  # seed of the tables: must be the same for all runs being compared
    "seed": 0,
}
GYM = {
    "options": "",  # the family's own configuration, such as "min_terms=2, max_terms=4"; "": its defaults
    "size": 10_000,  # number of training items to draw
    "test_size": 500,  # number of items to draw for each of the other splits
    "max_prompt": 512,  # characters; items with a longer prompt are excluded
    "max_answer": 128,  # characters; items with a longer answer are excluded
    "strip": True,  # whether to strip the words that all training questions begin and end with
    "harder": True,  # whether to draw the split `harder`, which takes time
    "seed": 0,
}
INDUCTION = {
    "vocabulary": 16,  # number of token ids, including the trigger
    "length": 64,  # tokens per training input; 256 in the paper
    "seed": 0,
}
LISTOPS = {
    "lengths": "1:5",  # training depths, FIRST:LAST, both included
    "seed": 0,
}
LISTOPS_LRA = {
    "tokens": "501:1999",  # tokens per input, FIRST:LAST, both included
    "train_examples": 96_000,
    "test_examples": 2_000,  # examples of valid, and of test
    "seed": 0,  # seed of all examples, including training
}
MODULAR = {
    "modulus": 97,  # a prime; numbers are 0 ... modulus - 1
    "share": 0.5,  # share of the equations used for training
    "split_seed": 0,  # seed of the training split: must be the same for all runs being compared
}
MQAR = {
    "vocabulary": 256,  # number of token ids: 0 for the filler, then keys, and values in the upper half
    "pairs": 4,  # key-value pairs, in training
    "length": 64,  # tokens per training input; at least four per pair
    "seed": 0,
}
PATH_STAR = {
    "degree": 2,  # number of arms
    "path_length": 5,  # nodes from the start to the end of an arm, both included
    "nodes": 50,  # number of node ids to draw from
    "train_size": 200_000,  # training examples; 0: unlimited
    "test_size": 20_000,  # test examples; valid has a tenth as many
    "seed": 0,
}
P_HOP = {
    "hops": 4,  # 16 or 32 in the paper
    "length": 64,  # tokens per training input; 256 in the paper
    "alphabet": 4,  # number of symbols; 4 in the paper
    "seed": 0,
}
SCAN: dict[str, Any] = {
    "valid_share": 0.0,  # share of the training pairs held out for validation; 0: none, as in the paper
    "layout": "translation",  # translation: for encoder_decoder; prompted: a decoder-only model reads the command and continues
    "cutoff": 22,  # scan/length: actions of the longest training answer; fewer leave lengths for validation
}

KEYS: dict[str, Mapping[str, Any]] = {  # name of a task -> its keys; a name that ends in "/" stands for all names with that prefix
    "addition": ADDITION,
    "arithmetic/": ARITHMETIC,
    "chomsky/": CHOMSKY,
    "ctl/": CTL,
    "gym/": GYM,
    "listops/depth": LISTOPS,
    "listops/lra": LISTOPS_LRA,
    "modular/": MODULAR,
    "path_star": PATH_STAR,
    "recall/induction": INDUCTION,
    "recall/mqar": MQAR,
    "recall/p_hop": P_HOP,
    "scan/": SCAN,
    "synthetic/lm": CHAIN,
}


def reasoning(name: str, **changes: Any) -> ConfigDict:
    """Returns the keys of a generated task, such as `ctl/forward`, with some changed. Raises UserError for an unknown name."""
    for known, keys in KEYS.items():
        if name == known or (known.endswith("/") and name.startswith(known)):
            return changed({"name": name, **keys}, changes)
    raise unknown("task", name, KEYS, "reasoning(NAME)")


def chomsky(name: str, **changes: Any) -> ConfigDict:
    """Returns the keys of a task of the Chomsky-hierarchy benchmark, `chomsky/NAME`; `assay show --task=list` prints all names."""
    return reasoning(f"chomsky/{name}", **changes)
