"""Every key of the tasks whose examples are generated, with its unit or effect. `reasoning("addition", pad=False)` changes some.

The modules of the tasks check the values: see the dataclass `...Config` of each in `assay/tasks/`. `seed` draws the valid and test
examples, so runs that are compared share it; training examples follow the run's own seed.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed
from assay.core.errors import unknown

ADDITION = {
    "lengths": "3:3",  # digits of the operands in training, FIRST:LAST, both included
    "pad": True,  # numbers have leading zeros up to the length, sums to one digit more
    "balanced": False,  # each number of carries is equally likely in training
    "seed": 0,
}
ARITHMETIC = {
    "lengths": "1:5",  # training depths, FIRST:LAST, both included
    "seed": 0,
}
CHAIN = {
    "vocabulary": 256,  # token ids
    "window": 128,  # tokens that a model reads
    "seed": 0,
}
CHOMSKY = {
    "convention": "code",  # "code" or "paper", where the published code and paper disagree
    "lengths": "1:40",  # training lengths, both included
    "seed": 0,
}
CTL = {
    "lengths": "1:5",  # training numbers of functions, FIRST:LAST, both included
    "tables_seed": 0,  # of the tables: runs that are compared share it
    "seed": 0,
}
GYM = {
    "options": "",  # the family's own configuration, such as "min_terms=2, max_terms=4"; "": its defaults
    "size": 10_000,  # training items
    "test_size": 500,  # items of each of the other splits
    "max_prompt": 512,  # characters; items with a longer prompt are left out
    "max_answer": 128,  # characters; items with a longer answer are left out
    "strip": True,  # the words with which all training questions begin and end are removed
    "harder": True,  # the split `harder` is drawn, which takes time
    "seed": 0,
}
INDUCTION = {
    "vocabulary": 16,  # token ids, the trigger included
    "length": 64,  # tokens of a training input; 256 in the paper
    "seed": 0,
}
LISTOPS = {
    "lengths": "1:5",  # training depths, FIRST:LAST, both included
    "seed": 0,
}
LISTOPS_LRA = {
    "tokens": "501:1999",  # of an input, FIRST:LAST, both included
    "train_examples": 96_000,
    "test_examples": 2_000,  # of valid, and of test
    "seed": 0,  # of all examples, those of training included
}
MODULAR = {
    "modulus": 97,  # a prime; numbers are 0 ... modulus - 1
    "share": 0.5,  # of the equations, for training
    "split_seed": 0,  # of the choice of training equations: runs that are compared share it
}
MQAR = {
    "vocabulary": 256,  # token ids: 0 for nothing, then keys, and values in the upper half
    "pairs": 4,  # pairs of a key and its value, in training
    "length": 64,  # tokens of a training input; at least four a pair
    "seed": 0,
}
PATH_STAR = {
    "degree": 2,  # arms
    "path_length": 5,  # nodes from the start to the end of an arm, both included
    "nodes": 50,  # labels that an example's nodes are drawn from
    "train_size": 200_000,  # training examples; 0: unlimited
    "test_size": 20_000,  # test examples; valid has a tenth as many
    "seed": 0,
}
P_HOP = {
    "hops": 4,  # 16 or 32 in the paper
    "length": 64,  # tokens of a training input; 256 in the paper
    "alphabet": 4,  # symbols; 4 in the paper
    "seed": 0,
}
SCAN: dict[str, Any] = {
    "valid_share": 0.0,  # share of the training pairs that is held out for choices; 0: none, as in the paper
    "layout": "translation",  # translation: for encoder_decoder; prompted: one stream reads the command and continues with the answer
    "cutoff": 22,  # scan/length: actions of the longest training answer; fewer leave lengths to make choices on
}

KEYS: dict[str, Mapping[str, Any]] = {  # name of a task -> its keys; a name that ends in "/" stands for all names that begin so
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
