"""SCAN against its paper: a grammar written a second time, the published sizes, and decoding without a cache."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from assay.cli import show as browse
from assay.config.files import load
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.evals.rows import value_of
from assay.infer.decode import free_running
from assay.tasks.composition import scan
from assay.tasks.composition.scan import ACTIONS, END, SPLITS, WORDS
from assay.tasks.table import TASKS, build
from assay.train.experiment import assemble

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
SIZES = {"simple": (16_728, 4_182), "length": (16_990, 3_920), "jump": (14_670, 7_706), "turn_left": (21_890, 1_208)}  # train, test
BEGIN = END + 1


def task(name: str, valid_share: float = 0.0, cutoff: int = scan.CUTOFF):
    return build({"name": f"scan/{name}", "valid_share": valid_share, "cutoff": cutoff}, 0)


def interpret(command: str) -> list[str]:
    """What a command means, read from the left as in the paper's figure 6: C -> S and S | S after S; S -> V, V twice, V thrice."""
    if " and " in command:
        first, second = command.split(" and ")
        return interpret(first) + interpret(second)
    if " after " in command:
        first, second = command.split(" after ")
        return interpret(second) + interpret(first)
    *words, last = command.split()
    if last in ("twice", "thrice"):
        return interpret(" ".join(words)) * {"twice": 2, "thrice": 3}[last]
    verb, *where = command.split()
    act = [] if verb == "turn" else [f"I_{verb.upper()}"]
    if not where:
        return act
    turn = [f"I_TURN_{where[-1].upper()}"]
    return {"opposite": turn * 2 + act, "around": (turn + act) * 4}[where[0]] if len(where) == 2 else turn + act


def grammar() -> set[str]:
    """Every command of C: V is a verb, alone (but not `turn`) or with `left` or `right`, plain, `opposite` or `around`."""
    verbs = [v for v in ("walk", "look", "run", "jump")]
    verbs += [f"{v} {how}{side}" for v in (*verbs, "turn") for how in ("", "opposite ", "around ") for side in ("left", "right")]
    sentences = [f"{v}{times}" for v in verbs for times in ("", " twice", " thrice")]
    return {*sentences, *(f"{a} {join} {b}" for a in sentences for b in sentences for join in ("and", "after"))}


def test_all_pairs_are_those_of_the_grammar():
    pairs = scan.pairs()
    assert len(pairs) == len(set(pairs)) == 20_910
    assert {command for command, _ in pairs} == grammar()
    for command, actions in pairs:
        assert actions.split() == interpret(command), command
    assert max(len(command.split()) for command, _ in pairs) == scan.LONGEST_COMMAND


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_disjointness(name):
    train, test = scan.split(name)
    assert (len(train), len(test)) == SIZES[name]
    assert not set(train) & set(test) and {*train, *test} == set(scan.pairs())
    made = task(name)
    assert tuple(made.splits) == SPLITS and [made.source(split).size for split in SPLITS] == [len(train), len(test)]


def test_the_length_split_tests_longer_answers():
    train, test = (task("length").source(split) for split in SPLITS)
    lengths = [np.unique(source.length_of(np.arange(source.size))) - 1 for source in (train, test)]  # without END
    assert lengths[0].max() == 22
    assert lengths[1].tolist() == [24, 25, 26, 27, 28, 30, 32, 33, 36, 40, 48], "as in the paper"


def test_an_earlier_cutoff_leaves_lengths_to_choose_on():
    made = task("length", cutoff=16)
    train, test = (made.source(split).length_of(np.arange(made.source(split).size)) - 1 for split in SPLITS)
    assert train.max() == 16 and test.min() > 16 and len(train) + len(test) == len(scan.pairs())
    assert task("length").published and not made.published, "the published cells belong to the standard split"
    for name, cutoff, message in (("length", 23, "from 1 to 22"), ("jump", 16, "not split by")):
        with pytest.raises(UserError, match=message):
            task(name, cutoff=cutoff)


@pytest.mark.parametrize(("name", "primitive"), [("jump", "jump"), ("turn_left", "turn left")])
def test_the_primitive_is_seen_alone_only(name, primitive):
    train, test = scan.split(name)
    assert {command for command, _ in train if primitive in command} == {primitive}
    assert all(primitive in command and command != primitive for command, _ in test)
    share = sum(command == primitive for command, _ in train) / len(train)
    assert share == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize("name", SIZES)
def test_valid_holds_out_pairs_that_training_lacks(name):
    made = task(name, 0.05)
    assert set(made.splits) == {"train", "valid", "test"}
    held = {split: {(e["input"], e["target"]) for e in browse.examples(made, split, -1)} for split in made.splits}
    train, test = scan.split(name)
    assert not held["train"] & held["valid"] and held["train"] | held["valid"] == set(train) and held["test"] == set(test)
    assert len(held["valid"]) == pytest.approx(0.05 * len(set(train)), abs=1)
    assert {split: made.source(split).size for split in ("valid", "test")} == {"valid": len(held["valid"]), "test": SIZES[name][1]}


def test_show_prints_strings(capsys):
    browse.print_examples("scan/simple", "test", 3, 0, "jsonl", [], {})
    for line in capsys.readouterr().out.splitlines():
        shown = json.loads(line)
        assert interpret(shown["input"]) == shown["target"].split() and shown["length"] == len(shown["target"].split()) + 1
    browse.print_examples("scan/simple", "test", 1, 0, "text", [], {})
    assert "I_" in capsys.readouterr().out


def test_the_layout_of_a_translation():
    made = task("simple")
    source = made.source("train")
    indices = np.arange(200) * 83
    examples = source.fetch(indices)
    width = int(examples.length.max()) + 3
    batch = made.encode(examples, width)
    assert batch["inputs"].shape == (200, scan.LONGEST_COMMAND) and batch["decoder_inputs"].shape == (200, width)
    assert (batch["weight"] == 1).all()
    for i in range(200):
        shown, n = source.describe(examples, i), int(examples.length[i])
        assert " ".join(WORDS[token] for token in batch["inputs"][i, : batch["length"][i]]) == shown["input"]
        assert [ACTIONS[token] for token in batch["targets"][i, : n - 1]] == shown["target"].split() and batch["targets"][i, n - 1] == END
        assert batch["decoder_inputs"][i].tolist() == [BEGIN, *batch["targets"][i, :-1].tolist()]
        assert batch["mask"][i].tolist() == [1.0] * n + [0.0] * (width - n)
        assert batch["given"][i].tolist() == [1] + [0] * (width - 1)
        assert made.read(batch["targets"][i], {}) == shown["target"]


@pytest.fixture(scope="module")
def translator():
    """A model with parameters large enough that its answers differ from one command to the next."""
    config = to_dict(load(f"{EXPERIMENTS}/translate/encoder_decoder.py:tiny"))
    assembled = assemble(config, [])
    made, model = assembled.task, assembled.model
    source = made.source("train")
    examples = source.fetch(source.indices(1)[:2000:250])
    batch = made.encode(examples, 12)
    params = jax.tree.map(lambda leaf: 3 * leaf, model.init(jax.random.key(0), batch))
    return made, model, params, batch


def test_free_running_equals_a_loop_without_cache(translator):
    made, model, params, batch = translator
    read = batch["decoder_inputs"].copy()
    read[:, 1:] = 0
    apply = jax.jit(lambda params, batch: model.apply(params, batch).logits)
    logits = []
    for t in range(read.shape[1]):
        logits.append(np.asarray(apply(params, {**batch, "decoder_inputs": read}))[:, t])
        if t + 1 < read.shape[1]:
            read[:, t + 1] = logits[-1].argmax(axis=-1)
    slow = np.stack(logits, axis=1)
    answers = slow.argmax(axis=-1)
    assert len({tuple(row) for row in answers.tolist()}) > 2, "the answers depend on the command"
    noise = np.random.default_rng(0).integers(0, END, batch["decoder_inputs"].shape).astype(np.int32)
    hidden = {**batch, "decoder_inputs": np.where(batch["given"] > 0, batch["decoder_inputs"], noise)}  # never read
    fast = jax.jit(lambda params, batch: free_running(model, params, batch, 0, 1))(params, hidden)
    # In float64 the two agree to 2e-13. In float32 either is up to 7e-4 from that, since three times the parameters sharpen the attention.
    np.testing.assert_allclose(fast.logits, slow, atol=7e-4)

    # Targets that the model writes in the first half of the rows, and all but for one token in the rest.
    targets = answers.astype(np.int32)
    targets[4:, 3] = (targets[4:, 3] + 1) % (END + 1)
    asked = {**batch, "targets": targets, "mask": np.ones_like(batch["mask"])}
    _, weight, metrics = made.score(fast, asked)
    assert np.asarray(metrics["exact_match"]).tolist() == [1.0] * 4 + [0.0] * 4
    np.testing.assert_allclose(metrics["token_accuracy"], [1.0] * 4 + [11 / 12] * 4, atol=1e-6)
    assert np.asarray(weight).tolist() == [12.0] * 8


def test_bleu_of_perfect_and_of_other_answers():
    shown = [example["target"] for example in browse.examples(task("simple"), "test", 50)]
    perfect = [{"prediction": target, "target": target, "scores": {}, "length": 1} for target in shown]
    assert value_of(perfect, "bleu", False) == pytest.approx(100.0)
    others = [{**record, "prediction": target} for record, target in zip(perfect, shown[1:] + shown[:1], strict=True)]
    assert value_of(others, "bleu", False) < 80
    assert task("simple").read(np.array([0, 1, END, 2, END]), {}) == "I_WALK I_LOOK", "what comes after the first end is not read"


def test_one_stream_has_the_same_pairs_and_answers():
    """The prompted layout: the command, EMPTY, then the actions so far."""
    name = {**TASKS["scan/length"].defaults, "name": "scan/length"}
    two, one = build(name, 0), build(name | {"layout": "prompted"}, 0)
    source = one.source("test")
    examples = source.fetch(np.arange(6))
    width = one.width(int(examples.length.max()))
    batch = one.encode(examples, width)
    for row in range(6):
        start, count = int(examples.input_length[row]), int(examples.target_length[row])
        counted = np.flatnonzero(batch["mask"][row])
        assert counted[0] == start and counted[-1] == start + count - 1
        assert batch["inputs"][row, start] == len(WORDS) and batch["given"][row].sum() == start + 1
        np.testing.assert_array_equal(
            batch["inputs"][row, start + 1 : start + count] - one.answer_to_input, examples.target[row, : count - 1]
        )
        assert (
            one.read(batch["targets"][row], {name: array[row] for name, array in batch.items()}) == source.describe(examples, row)["target"]
        )
    assert [two.source("test").describe(examples, row) for row in range(6)] == [source.describe(examples, row) for row in range(6)]
    with pytest.raises(UserError, match=r"layout 'both'.*prompted, translation.*--config\.task\.layout"):
        build(name | {"layout": "both"}, 0)
