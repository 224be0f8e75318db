"""Families of reasoning-gym: answers checked a second way, no question in two splits, the strict verifier, and what is refused."""

import ast
import functools
import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from assay.config.files import load
from assay.config.schema import to_dict
from assay.core.errors import UserError
from assay.core.stats import wilson
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals.evaluate import EvaluateConfig, evaluate, make_answer
from assay.evals.rows import rows
from assay.models.model import Output
from assay.tasks import table
from assay.tasks.puzzles import gym, gym_items
from assay.tasks.puzzles.gym import DEFAULTS, IMPOSSIBLE, UNENDED, GymConfig
from assay.train.experiment import assemble

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"
FAMILIES = (
    "chain_sum",
    "basic_arithmetic",
    "spell_backward",
    "propositional_logic",
    "syllogism",
    "path_star",
    "simple_equations",
    "course_schedule",
)
OR = "\N{LOGICAL OR}"
SMALL = {**DEFAULTS, "size": 120, "test_size": 30, "max_prompt": 900}


@functools.cache
def task(family: str, run: int = 0, **changes):
    return gym.build(GymConfig(f"gym/{family}", **{**SMALL, **changes}), run)


def shown(made, split: str) -> list[dict]:
    source = made.source(split)
    examples = source.fetch(np.arange(source.size))
    return [source.describe(examples, i) for i in range(source.size)]


# -- every answer, found a second way from what the model reads ----------------------------------------------------------------


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


def finishes(prompt: str) -> bool:
    """Courses are taken whose prerequisites are done, until nothing changes."""
    total, pairs = numbers(prompt)[0], [tuple(map(int, pair)) for pair in re.findall(r"\((\d+), (\d+)\)", prompt)]
    done: set[int] = set()
    for _ in range(total):
        done |= {course for course in range(total) if all(before in done for after, before in pairs if after == course)}
    return len(done) == total


def walks(prompt: str, answer: str) -> bool:
    """The answer walks along edges from the start to the goal."""
    edges, asked = prompt.split("/")
    path = answer.split()
    return [path[0], path[-1]] == asked.split() and all(f"{a} {b}" in edges.split("|") for a, b in itertools.pairwise(path))


def solves(prompt: str, answer: str) -> bool:
    """Both sides have one value. In one item of a thousand the unknown cancels, and any answer does."""
    equation = prompt.split(": ")[-1]
    values = dict.fromkeys(re.findall("[a-z]", equation), int(answer))
    left, right = (eval(side, values) for side in equation.split("="))
    return left == right


def follows(prompt: str, answer: str) -> bool:
    """In every assignment in which all premises hold, the conclusion does. Python's operators on one number, a bit an assignment."""

    def bits(formula: str) -> int:
        formula = formula.strip()
        if formula.startswith("¬"):
            return 0xFFFFFFFF ^ bits(formula[1:])
        if len(formula) == 1:
            place = 1 << (ord(formula) - ord("P"))
            return sum(1 << row for row in range(32) if row & place)
        depth = 0
        for i, c in enumerate(formula[1:-1], 1):
            depth += {"(": 1, ")": -1}.get(c, 0)
            if depth == 0 and c in f"∧{OR}→↔":
                a, b = bits(formula[1:i]), bits(formula[i + 1 : -1])
                return {"∧": a & b, OR: a | b, "→": (0xFFFFFFFF ^ a) | b, "↔": 0xFFFFFFFF ^ a ^ b}[c]
        raise AssertionError(formula)

    premises = [re.sub(r"^\.?\d+\. ", "", line) for line in prompt.splitlines()]
    return functools.reduce(int.__and__, map(bits, [line for line in premises if line.strip(". ")])) & ~bits(answer) == 0


def concludes(prompt: str) -> str:
    """Whether the third sentence holds in every world where the first two do; a world says which of eight kinds of things there are."""
    sentences = re.findall(r"(All|No|Some) (\w+) are (not )?(\w+)", prompt)[-3:]
    terms = sorted({term for _, a, _, b in sentences for term in (a, b)})
    kinds = list(itertools.product((False, True), repeat=len(terms)))

    def holds(sentence, world) -> bool:
        quantity, a, negated, b = sentence
        found = [kind[terms.index(b)] for kind in world if kind[terms.index(a)]]
        return {"All": all(found), "No": not any(found), "Some": not all(found) if negated else any(found)}[quantity]

    worlds = [[kind for i, kind in enumerate(kinds) if number >> i & 1] for number in range(1 << len(kinds))]
    peopled = [world for world in worlds if all(any(kind[i] for kind in world) for i in range(len(terms)))]
    return "Yes" if all(holds(sentences[2], world) for world in peopled if all(holds(s, world) for s in sentences[:2])) else "No"


ORACLES = {
    "chain_sum": lambda prompt, answer: eval(re.findall(r"[-+\d ]{3,}", prompt)[-1]) == int(answer),
    "basic_arithmetic": lambda prompt, answer: eval(max(re.findall(r"[-+*/()\d ]+", prompt), key=len).replace("/", "//")) == int(answer),
    "spell_backward": lambda prompt, answer: "".join(reversed(prompt.split()[-1])) == answer,
    "propositional_logic": follows,
    "path_star": walks,
    "simple_equations": solves,
    "course_schedule": lambda prompt, answer: str(finishes(prompt)) == answer,
}


@pytest.mark.parametrize("family", ORACLES)
def test_answers_are_right_by_another_way(family):
    made = task(family)
    for split in made.splits:
        for example in shown(made, split):
            assert ORACLES[family](example["input"], example["target"]), example


def test_the_syllogisms_that_do_not_follow_are_as_many_as_the_note_says():
    made = task("syllogism", size=800)
    pairs = [(concludes(example["input"]), example["target"]) for split in made.splits for example in shown(made, split)]
    wrong = [(true, said) for true, said in pairs if true != said]
    assert set(wrong) == {("No", "Yes")}
    low, high = wilson(len(wrong) / len(pairs), len(pairs))
    assert low < 497 / 4000 < high and "497 of 4,000" in made.note


# -- splits ---------------------------------------------------------------------------------------------------------------------


def test_the_library_shares_items_between_near_seeds_and_the_splits_do_not():
    create = gym_items.library().create_dataset
    assert create("chain_sum", size=5, seed=8)[3]["question"] == create("chain_sum", size=5, seed=7)[4]["question"], "why blocks are needed"
    blocks = [block for split in gym_items.BLOCKS.values() for block in split]
    assert len(set(blocks)) == len(blocks) and (max(blocks) + 1) * gym_items.BLOCK <= 2**32
    drawn = {
        (split, seed): gym_items.draw("chain_sum", {"min_terms": 6}, split, seed, 300) for split in gym_items.BLOCKS for seed in (0, 1)
    }
    questions = [{item["question"] for item in items} for items in drawn.values()]
    assert len(set.union(*questions)) == sum(map(len, questions))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_question_is_in_two_splits(family):
    made = task(family)
    inputs = [example["input"] for split in made.splits for example in shown(made, split)]
    assert len(set(inputs)) == len(inputs)
    assert ("harder" in made.splits) == (family not in ("basic_arithmetic", "spell_backward", "syllogism"))
    assert made.source("test").size <= 30 and 60 < made.source("train").size <= 120


def test_questions_that_repeat_stay_with_the_test_and_are_counted():
    small = {"options": "min_value=1, max_value=12", "size": 400}
    one, two = task("lcm", **small), task("lcm", 1, **small)
    assert "in test too" in one.note and "in valid too" in one.note and "drawn before" in one.note
    for split in ("test", "valid", "harder"):
        assert shown(one, split) == shown(two, split)
    assert shown(one, "train") != shown(two, "train") and one.data != two.data
    assert shown(gym.build(GymConfig("gym/lcm", **{**SMALL, **small}), 0), "train") == shown(one, "train"), "deterministic"
    train = one.source("train").size
    left = re.search(r"train: (\d+) items, left out ([^;]*)", one.note)
    assert int(left.group(1)) == train and train + sum(map(int, re.findall(r"\d+", left.group(2)))) == 400
    others = {example["input"] for split in ("test", "valid", "harder") for example in shown(one, split)}
    assert not others & {example["input"] for example in shown(one, "train")}
    with pytest.raises(UserError, match=r"nothing is left for train.*task\.test_size"):
        task("lcm", options="min_value=1, max_value=2", harder=False)


def test_harder_is_one_level_beyond_training():
    assert gym_items.harder("chain_sum", {}) == {"min_terms": 7, "max_terms": 7, "min_digits": 5, "max_digits": 5}
    assert gym_items.harder("chain_sum", {"max_terms": 12, "max_digits": 10}) is None, "nothing beyond"
    assert gym_items.harder("base_conversion", {}) == {"min_base": 16, "max_base": 18, "min_value": 1000, "max_value": 10000}
    assert gym_items.harder("complex_arithmetic", {})["min_real"] == -100, "levels that fall"
    assert gym_items.harder("syllogism", {}) is None and gym_items.harder("gsm_symbolic", {}) is None
    for example in shown(task("chain_sum"), "harder"):
        terms = re.findall(r"\d+", example["input"])
        assert len(terms) == 7 and {len(term) for term in terms} == {5}
    assert "harder" not in task("chain_sum", harder=False).splits


ELSEWHERE = "from assay.tasks.puzzles.gym_items import draw; print([i['question'] for i in draw('isomorphic_strings', {}, 'test', 0, 50)])"


def test_items_do_not_depend_on_the_process():
    here = [item["question"] for item in gym_items.draw("isomorphic_strings", {}, "test", 0, 50)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "5"}
    there = subprocess.run([sys.executable, "-c", ELSEWHERE], env=environment, capture_output=True, text=True, check=True)
    assert ast.literal_eval(there.stdout) == here
    drawn = gym_items.draw("list_functions", {}, "test", 0, 50)  # some of these use Python's own generator
    assert drawn == gym_items.draw("list_functions", {}, "test", 0, 50)
    python = random.getstate()
    with gym_items._own_random():
        random.seed(1)
    assert random.getstate() == python


def test_what_took_long_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    first = gym_items.draw("chain_sum", {}, "test", 0, 20)
    assert not (tmp_path / "gym").exists(), "what is quick is drawn again"
    monkeypatch.setattr(gym_items, "SLOW_SECONDS", 0.0)
    assert gym_items.draw("chain_sum", {}, "test", 0, 20) == first
    assert "gym/chain_sum: 20/20 items" in capsys.readouterr().err
    (kept,) = (tmp_path / "gym").iterdir()
    assert (tmp_path / "gym").stat().st_mode & 0o777 == 0o700
    with monkeypatch.context() as patch:
        patch.setattr(gym_items, "_items", None)
        assert gym_items.draw("chain_sum", {}, "test", 0, 20) == first, "read, not drawn"
    kept.write_bytes(kept.read_bytes()[:100])
    assert gym_items.draw("chain_sum", {}, "test", 0, 20) == first, "a broken file is drawn again"
    gym_items.draw("chain_sum", {"min_terms": 3}, "test", 0, 20)
    assert len(list((tmp_path / "gym").iterdir())) == 2


# -- what the model reads and how it is scored ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layout_and_a_perfect_and_a_junk_answer(family):
    made = task(family)
    source = made.source("test")
    examples = source.fetch(np.arange(8))
    batch = made.encode(examples, made.width(source.lengths[1]))
    rest = made.vocabulary.inputs - made.vocabulary.outputs  # characters, <unk>, EMPTY
    for i in range(8):
        line, start = source.describe(examples, i), int(examples.length[i])
        if not set(line["target"]) <= set(made.classes) or not set(line["input"]) <= set(made.symbols):
            continue  # a character that the small training split lacks
        assert "".join(made.symbols[token] for token in batch["inputs"][i, :start]) == line["input"] and start == len(line["input"])
        assert batch["inputs"][i, start] == rest - 1 == made.answer_to_input - 1 and batch["given"][i].sum() == start + 1
        written = batch["inputs"][i, start + 1 : start + 1 + len(line["target"])] - made.answer_to_input
        assert "".join(made.classes[token] for token in written) == line["target"]
        row = {name: array[i] for name, array in batch.items()}
        assert made.read(batch["targets"][i], row) == line["target"]
        assert made.verify({**line, "prediction": line["target"]})
        assert not made.verify({**line, "prediction": line["target"] + UNENDED}), "it did not stop"
        for junk in ("", "?", "9**9**9**9", line["target"] + " or not"):
            assert not made.verify({**line, "prediction": junk})
    assert made.read(np.zeros_like(batch["targets"][0]), {name: array[0] for name, array in batch.items()}).endswith(UNENDED)


def test_the_verifier_is_strict():
    item = gym_items.draw("spell_backward", {}, "test", 0, 1)[0]
    scorer = gym_items.scorer("spell_backward", {})
    assert 0.0 < scorer.score_answer("x" + item["answer"][1:], item) < 1.0, "the library gives a part"
    assert not gym_items.accepts(scorer, "x" + item["answer"][1:], item) and gym_items.accepts(scorer, item["answer"], item)


@pytest.mark.parametrize(
    ("family", "junk"),
    [
        ("game_of_life_halting", ("junk", "zzz", "0", "true false")),
        ("coin_flip", ("0", "1", "zzz")),
        ("gsm_symbolic", ("zzz", "0.5")),
        ("knights_knaves", ("zzz",)),
        ("letter_jumble", ("zzz",)),
    ],
)
def test_a_verifier_rejects_junk_and_a_right_answer_with_more_behind_it(family, junk):
    scorer = gym_items.scorer(family, {})
    for item in gym_items.draw(family, {}, "test", 0, 20):
        right = item["answer"]
        assert gym_items.accepts(scorer, right, item)
        assert not [answer for answer in junk if answer != right and gym_items.accepts(scorer, answer, item)]
        assert not gym_items.accepts(scorer, right + " zzz", item)
    graph = gym_items.draw("graph_color", {}, "test", 0, 1)[0]  # many answers are right, and its metadata keep one
    assert graph["answer"] is None and gym_items.gold(graph, gym_items.scorer("graph_color", {})).startswith('{"')
    logic = task("propositional_logic")
    example = next(e for e in shown(logic, "test") if re.fullmatch(rf"\(\w {OR} \w\)", e["target"]))
    _, a, _, _, _, b, _ = example["target"]
    assert logic.verify({**example, "prediction": f"({b} {OR} {a})"}), "another right answer, which exact match does not count"
    assert not logic.verify({**example, "prediction": f"({a} {OR} ¬{a})"}), "true and worthless: a quarter of the points"


def test_an_answer_that_did_not_stop_never_counts(monkeypatch):
    made = task("chain_sum")
    monkeypatch.setattr(gym_items, "accepts", lambda *arguments: True)
    line = shown(made, "test")[0]
    assert made.verify({**line, "prediction": "1"}) and not made.verify({**line, "prediction": "1" + UNENDED})


def test_a_character_that_training_lacks():
    lines = gym.Lines([{}, {}], ["ab?", "ba"], ["1", "12"], None)
    examples = gym._source("test", lines, "ab", "1", 3).fetch(np.arange(2))
    assert examples.input.tolist() == [[0, 1, 2], [1, 0, 0]] and examples.target.tolist() == [[0, 1, 0], [0, IMPOSSIBLE, 1]]
    batch = gym.prompted(examples, 6, 3)
    assert batch["inputs"].min() >= 0
    logits = jax.nn.one_hot(batch["targets"], 2)  # of IMPOSSIBLE: no class
    loss, _, scores = gym.score_tokens(Output(logits, {}), batch, ("exact_match",))
    assert np.asarray(scores["exact_match"]).tolist() == [1.0, 0.0] and np.isfinite(loss).all()


def test_templates_are_cut_at_words_and_by_training_alone():
    assert gym.common_ends(["Add 12 and 3, now", "Add 14 and 5, now"]) == ("Add ", " now")
    assert gym.common_ends(["say x", "say x y"]) == ("say ", ""), "something is left of each"
    assert gym.common_ends(["ab", "ab"]) == ("", "")
    assert gym._cut("Add 7 now", "Add ", " now") == "7" and gym._cut("Sum 7 now", "Add ", " now") == "Sum 7 now"
    whole, cut = task("chain_sum", strip=False, harder=False), task("chain_sum", harder=False)
    question = shown(whole, "test")[0]["input"]
    assert question.startswith("State the final answer") and question.endswith(f" {shown(cut, 'test')[0]['input']} =")
    assert whole.width(10) == cut.width(10) == 10 + max(len(e["target"]) for split in cut.splits for e in shown(cut, split)) + 1


def test_what_is_too_long_is_left_out_and_counted():
    made, whole = task("chain_sum", max_prompt=20, max_answer=2, harder=False), task("chain_sum", harder=False)
    for split in made.splits:
        fits = [e for e in shown(whole, split) if len(e["input"]) <= 20 and len(e["target"]) <= 2]
        assert shown(made, split) == fits
    assert "longer than max_prompt" in made.note and "longer than max_answer" in made.note
    assert "no split harder: 30 longer than max_prompt" in task("chain_sum", max_prompt=40).note
    with pytest.raises(UserError, match=r"120 longer than max_prompt.*config\.task\.max_prompt"):
        task("path_star", max_prompt=50)


# -- through evaluation and training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_one_who_knows_and_of_one_who_does_not(family):
    made = task(family)
    config, mesh = EvaluateConfig(("test",), 1, 32, 1), make_mesh(MeshConfig(1, 1, 1))
    labels = {"experiment": "", "model": "decoder", "treatment": "", "seed": 0, "steps": 0}

    @jax.jit
    def answer(shift, batch):
        given = (batch["targets"] + shift) % made.vocabulary.outputs
        return made.score(Output(jax.nn.one_hot(given, made.vocabulary.outputs), {}), batch)[2], given

    found, junk = (
        {row["metric"]: row for row in rows(evaluate(answer, shift, made, "test", config, mesh), made, "test", labels, False)}
        for shift in (0, 1)
    )
    possible = np.mean([set(example["target"]) <= set(made.classes) for example in shown(made, "test")])
    assert tuple(found) == made.metrics == ("verified", "exact_match", "token_accuracy")
    assert found["exact_match"]["value"] == pytest.approx(possible) and found["verified"]["value"] >= possible > 0.8
    assert {row["n"] for row in found.values()} == {made.source("test").size} and found["verified"]["note"] == made.note
    assert {row["value"] for row in junk.values()} <= {0.0} or possible < 1.0


def test_a_run(monkeypatch):
    """The record of an evaluation by a model that decodes: its scores are those of its text."""
    entry = table.Entry(gym.GymConfig, gym.build, gym.DEFAULTS, gym.SPLITS, gym.ABOUT)
    monkeypatch.setattr(table, "TASKS", {**table.TASKS, "gym/": entry})
    config = to_dict(load(f"{EXPERIMENTS}/reason/parity.py:lstm,tiny"))
    config["task"] = {"name": "gym/course_schedule", **SMALL}
    config["evaluate"]["splits"] = ("test",)
    made = assemble(config, [])
    params = made.model.init(made.key, made.first_batch())
    records = evaluate(
        jax.jit(make_answer(made.model, made.task)), params, made.task, "test", made.settings.evaluate, make_mesh(MeshConfig(1, 1, 1))
    )
    assert len(records) == made.task.source("test").size
    for record in records:
        assert record["scores"]["exact_match"] == (record["prediction"] == record["target"])
        assert record["scores"]["verified"] == made.task.verify(record)


# -- what is refused ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("chain_sums", {}, r"Did you mean 'gym/chain_sum'\? Known: gym/chain_sum, gym/decimal_chain_sum\."),
        ("nothing", {}, r"unknown task 'gym/nothing'.*gym/acre.*--config\.task\.name"),
        ("composite", {}, "mixture of the other families"),
        ("codeio", {}, "runs unchecked programs"),
        ("rush_hour", {}, r"only a verifier.*--config\.task\.name"),
        ("chain_sum", {"options": "terms=3"}, r"unknown option of gym/chain_sum 'terms'.*min_terms.*--config\.task\.options"),
        ("chain_sum", {"options": "min_terms"}, "not a list of KEY=VALUE"),
        ("chain_sum", {"options": "min_terms=open('x')"}, "not a list of KEY=VALUE"),
        ("chain_sum", {"options": "min_terms='a'"}, "another type than its default, 2"),
        ("chain_sum", {"options": "min_terms=9, max_terms=3"}, r"does not accept these options: .*max"),
        ("chain_sum", {"options": "seed=3"}, r"set --config\.task\.seed"),
        ("spell_backward", {"options": "min_word_len=20, max_word_len=20"}, "cannot make item 0"),
        ("chain_sum", {"size": 0}, r"config\.task\.size=0"),
        ("chain_sum", {"seed": 512}, r"config\.task\.seed=512.*0 to 511"),
    ],
)
def test_what_is_refused(family, changes, message):
    with pytest.raises(UserError, match=message):
        task(family, **changes)


def test_options_are_read_in_the_types_of_the_family():
    read = gym_items.read_options("basic_arithmetic", "min_terms=3, operators=('+', '-'), format_style=simple, allow_negation=False")
    assert read == {"min_terms": 3, "operators": ("+", "-"), "format_style": "simple", "allow_negation": False}
    assert gym_items.read_options("number_sorting", "min_value=-5") == {"min_value": -5.0}
    assert gym_items.read_options("chain_sum", "") == {}


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UserError, match=r"extra `reason`.*pip install"):
        gym.build(GymConfig("gym/chain_sum", **SMALL), 0)


def test_training_seeds_end():
    with pytest.raises(UserError, match=r"config\.seed=2560"):
        task("chain_sum", 2560)
