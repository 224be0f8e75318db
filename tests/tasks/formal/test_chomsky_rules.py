"""The fifteen Chomsky generators against an oracle in plain Python that parses every generated input from scratch."""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from assay.core.rng import example_keys
from assay.tasks.formal.chomsky_rules import RULES, Rule

ARITHMETIC = "01234+-*()"
EQUATION = "01234+-()x=*"
Row = list[int]


# The oracle: (tokens, convention) -> the scored part of every acceptable target. It asserts that the input is well formed.
def single(answer: int) -> list[Row]:
    return [[answer]]


def simulate_stack(tokens: Row) -> Row:
    text = "".join(map(str, tokens))
    assert re.fullmatch(r"[01]+[234]+|[01]", text)
    stack = []
    for token in tokens:
        if token == 2:
            stack = stack[:-1]
        else:
            stack.append({0: 0, 1: 1, 3: 0, 4: 1}[token])
    return [*reversed(stack), 2]


def evaluate_flat(tokens: Row) -> int:
    text = "".join(ARITHMETIC[token] for token in tokens)
    assert re.fullmatch(r"\d([-+*]\d)*", text)
    terms = re.findall(r"([-+]?)(\d(?:\*\d)*)", text)
    return sum((-1 if sign == "-" else 1) * math.prod(map(int, term.split("*"))) for sign, term in terms) % 5


def parse(text: str, at: int = 0) -> tuple[int, int]:
    """E = d | -d | (d) | (-d) | (E op E) from place `at`: its value and the place after it."""
    if text[at] in "01234":
        return int(text[at]), at + 1
    if text[at] == "-":
        assert text[at + 1] in "01234"
        return -int(text[at + 1]), at + 2
    assert text[at] == "("
    left, middle = parse(text, at + 1)
    if text[middle] == ")":
        assert text[at + 1] != "(", "brackets around brackets"
        return left, middle + 1
    right, end = parse(text, middle + 1)
    assert text[end] == ")"
    return {"+": left + right, "-": left - right, "*": left * right}[text[middle]] % 5, end + 1


def evaluate(text: str) -> int:
    value, end = parse(text)
    assert end == len(text)
    return value % 5


def solve(tokens: Row, convention: str) -> list[Row]:
    if len(tokens) < 3:
        assert not any(tokens)
        return single(0)
    text = "".join(EQUATION[token] for token in tokens)
    left, right = text.split("=")
    assert left.count("x") == 1 and len(right) == 1 and (convention == "paper" or "*" not in text)
    found = [digit for digit in range(5) if evaluate(left.replace("x", str(digit))) == int(right)]
    assert len(found) in ((1, 5) if convention == "paper" else (1,))
    return [[digit] for digit in found]


def find_missing(tokens: Row) -> int:
    if tokens == [1]:
        return 1
    if len(tokens) % 2:
        assert tokens.pop() == 3
    assert tokens.count(2) == 1
    half, hidden = len(tokens) // 2, tokens.index(2)
    answer = tokens[(hidden + half) % len(tokens)]
    tokens[hidden] = answer
    assert tokens[:half] == tokens[half:] and set(tokens) <= {0, 1}
    return answer


def to_number(bits: Row) -> int:
    return int("".join(map(str, bits))[::-1], 2)  # raises if there is any other token


def to_bits(number: int) -> Row:
    return [int(bit) for bit in reversed(f"{number:b}")]


def calculate(tokens: Row, operation: Callable[[Row], int]) -> list[Row]:
    parts = [tokens[: tokens.index(2)], tokens[tokens.index(2) + 1 :]] if len(tokens) > 2 else [tokens]
    values = [to_number(bits) for bits in parts]
    assert all(values)
    return [[*to_bits(operation(values)), 2]]


def root(tokens: Row, convention: str) -> list[Row]:
    turn = -1 if convention == "code" else 1
    value = to_number(tokens[::turn])
    assert value
    bits = to_bits(math.isqrt(value))
    return [(bits + [0] * (math.ceil(len(tokens) / 2) - len(bits)))[::turn]]


def odd_places_first(tokens: Row, convention: str) -> list[Row]:
    order = sorted(range(len(tokens)), key=lambda place: (place % 2 == (0 if convention == "code" else 1), place))
    return [[tokens[place] for place in order]]


ORACLE: dict[str, Callable[[Row, str], list[Row]]] = {
    "parity_check": lambda tokens, _: single(tokens.count(1) % 2),
    "even_pairs": lambda tokens, _: single(sum(a != b for a, b in itertools.pairwise(tokens)) % 2),
    "cycle_navigation": lambda tokens, _: single((tokens.count(2) - tokens.count(0)) % 5),
    "modular_arithmetic": lambda tokens, _: single(evaluate_flat(tokens)),
    "reverse_string": lambda tokens, _: [list(reversed(tokens))],
    "stack_manipulation": lambda tokens, _: [simulate_stack(tokens)],
    "modular_arithmetic_brackets": lambda tokens, _: single(evaluate("".join(ARITHMETIC[token] for token in tokens))),
    "solve_equation": solve,
    "duplicate_string": lambda tokens, _: [tokens + tokens],
    "missing_duplicate": lambda tokens, _: single(find_missing(list(tokens))),
    "odds_first": odd_places_first,
    "binary_addition": lambda tokens, _: calculate(tokens, sum),
    "binary_multiplication": lambda tokens, _: calculate(tokens, math.prod),
    "compute_sqrt": root,
    "bucket_sort": lambda tokens, _: [sorted(tokens)],
}
# Published vocabulary sizes, classes, tokens that occur, and output positions.
SHAPES: dict[str, tuple[int, int, set[int], Callable[[int], int]]] = {
    "parity_check": (2, 2, {0, 1}, lambda _: 1),
    "even_pairs": (2, 2, {0, 1}, lambda _: 1),
    "cycle_navigation": (3, 5, {0, 1, 2}, lambda _: 1),
    "modular_arithmetic": (9, 5, set(range(8)), lambda _: 1),
    "reverse_string": (2, 2, {0, 1}, lambda length: length),
    "stack_manipulation": (5, 3, set(range(5)), lambda length: length + 1),
    "modular_arithmetic_brackets": (10, 5, set(range(10)), lambda _: 1),
    "solve_equation": (11, 5, set(range(11)), lambda _: 1),
    "duplicate_string": (2, 2, {0, 1}, lambda length: 2 * length),
    "missing_duplicate": (4, 2, {0, 1, 2, 3}, lambda _: 1),
    "odds_first": (2, 2, {0, 1}, lambda length: length),
    "binary_addition": (3, 3, {0, 1, 2}, lambda length: length + 1),
    "binary_multiplication": (3, 3, {0, 1, 2}, lambda length: length + (length < 3)),
    "compute_sqrt": (2, 2, {0, 1}, lambda length: math.ceil(length / 2)),
    "bucket_sort": (5, 5, set(range(5)), lambda length: length),
}
CASES = [(convention, name) for convention in ("code", "paper") for name in ORACLE]
every_case = pytest.mark.parametrize(("convention", "name"), CASES)


def draw(convention: str, name: str, length: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return RULES[convention][name].generate(example_keys(name, 0, np.arange(count)), length)


def equal(some: tuple[np.ndarray, ...], others: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def assert_uniform(values: np.ndarray | list[int], expected: range) -> None:
    """Every expected value, no other one, each within five standard deviations of an equal share."""
    values, share = np.asarray(values).ravel(), 1 / len(expected)
    assert set(values.tolist()) == set(expected)
    for value in expected:
        assert abs(np.mean(values == value) - share) < 5 * math.sqrt(share * (1 - share) / len(values)), value


def test_the_table_is_complete() -> None:
    assert set(RULES) == {"code", "paper"}
    assert set(RULES["code"]) == set(RULES["paper"]) == set(ORACLE) == set(SHAPES)
    assert {name for rules in RULES.values() for name, rule in rules.items() if rule.states} == {"parity_check", "cycle_navigation"}


@every_case
@pytest.mark.parametrize(("lengths", "count"), [(range(1, 13), 40), ((40, 41, 137, 500), 6)], ids=["short", "long"])
def test_targets_are_the_oracles(convention: str, name: str, lengths: range, count: int) -> None:
    rule, (vocabulary, classes, _, slots) = RULES[convention][name], SHAPES[name]
    assert rule.inputs == vocabulary + (convention == "paper" and name == "solve_equation") and rule.outputs == classes
    for length in lengths:
        inputs, target, counted = draw(convention, name, length, count)
        width = length
        if name == "modular_arithmetic" and length % 2 == 0:
            width = length - 1 if convention == "code" else length + 1
        assert rule.width(length) == width and rule.slots(length) == slots(length)
        assert inputs.shape == (count, width) and target.shape == (count, slots(length)) and counted.shape == (count,)
        assert all(np.issubdtype(array.dtype, np.integer) for array in (inputs, target, counted))
        assert inputs.min() >= 0 and inputs.max() < rule.inputs
        for tokens, answer, scored in zip(inputs.tolist(), target.tolist(), counted.tolist(), strict=True):
            accepted = ORACLE[name](tokens, convention)
            assert scored == len(accepted[0])
            assert answer in [row + [0] * (slots(length) - len(row)) for row in accepted], (tokens, answer, accepted)


@pytest.mark.parametrize("name", ORACLE)
def test_conventions_differ_where_they_should(name: str) -> None:
    differs = name in ("modular_arithmetic", "solve_equation", "odds_first", "compute_sqrt")
    assert equal(draw("code", name, 12, 20), draw("paper", name, 12, 20)) != differs


@every_case
def test_an_example_depends_on_its_key_alone(convention: str, name: str) -> None:
    keys, rule = example_keys(name, 1, np.arange(17)), RULES[convention][name]
    for length in (1, 2, 3, 7, 12, 40):
        batch = rule.generate(keys, length)
        assert equal([array[::-1] for array in batch], rule.generate(keys[::-1], length))
        for index in range(len(keys)):
            assert equal([array[index : index + 1] for array in batch], rule.generate(keys[index : index + 1], length))
    assert rule.generate(keys[:0], 12)[0].shape == (0, rule.width(12))


@every_case
def test_all_symbols_and_classes_occur(convention: str, name: str) -> None:
    inputs, target, counted = draw(convention, name, 17, 1000)
    symbols = SHAPES[name][2] | ({11} if convention == "paper" and name == "solve_equation" else set())
    assert set(np.unique(inputs)) == symbols
    scored = target[np.arange(target.shape[1]) < counted[:, None]]
    assert set(np.unique(scored)) == set(range(SHAPES[name][1]))


FREE = ["parity_check", "even_pairs", "cycle_navigation", "reverse_string", "duplicate_string", "odds_first", "bucket_sort"]


@pytest.mark.parametrize("name", FREE)
def test_free_tokens_are_uniform_and_independent(name: str) -> None:
    (inputs, _, _), symbols = draw("code", name, 12, 4000), SHAPES[name][0]
    for place in range(12):
        assert_uniform(inputs[:, place], range(symbols))
    for place in range(11):
        assert_uniform(inputs[:, place] * symbols + inputs[:, place + 1], range(symbols**2))


@pytest.mark.parametrize(("name", "classes"), [("parity_check", 2), ("even_pairs", 2), ("cycle_navigation", 5), ("missing_duplicate", 2)])
def test_answers_are_balanced(name: str, classes: int) -> None:
    assert_uniform(draw("code", name, 40, 4000)[1], range(classes))


@pytest.mark.parametrize("convention", ["code", "paper"])
def test_arithmetic_symbols_are_uniform(convention: str) -> None:
    inputs, _, _ = draw(convention, "modular_arithmetic", 9, 2000)
    assert_uniform(inputs[:, ::2], range(5))
    assert_uniform(inputs[:, 1::2], range(5, 8))


def test_stacks_have_every_height_and_every_action() -> None:
    inputs, _, _ = draw("code", "stack_manipulation", 9, 4000)
    assert_uniform((inputs < 2).sum(axis=1), range(1, 9))
    assert_uniform(inputs[inputs >= 2], range(2, 5))
    assert_uniform(inputs[inputs < 2], range(2))


NESTED = [("code", "modular_arithmetic_brackets", "+-*"), ("code", "solve_equation", "+-"), ("paper", "solve_equation", "+-*")]


@pytest.mark.parametrize(("convention", "name", "operators"), NESTED)
def test_brackets_split_uniformly(convention: str, name: str, operators: str) -> None:
    """Of 10 tokens, 3 are the outer brackets and operator: the left part has 1 to 6. The same one level below, of 6: 1 to 2."""
    symbols, extra = (EQUATION, 2) if name == "solve_equation" else (ARITHMETIC, 0)
    inputs, _, _ = draw(convention, name, 10 + extra, 4000)
    texts = ["".join(symbols[token] for token in row[:10]).replace("x", "0") for row in inputs.tolist()]
    middles = [parse(text, 1)[1] for text in texts]
    assert_uniform([middle - 1 for middle in middles], range(1, 7))
    assert_uniform([operators.index(text[middle]) for text, middle in zip(texts, middles, strict=True)], range(len(operators)))
    nested = [(text, parse(text, 2)[1]) for text, middle in zip(texts, middles, strict=True) if middle == 7]
    assert_uniform([middle - 2 for _, middle in nested], range(1, 3))
    pairs = [operators.index(text[7]) * len(operators) + operators.index(text[middle]) for text, middle in nested]
    assert_uniform(pairs, range(len(operators) ** 2))
    if not extra:
        assert_uniform([int("".join(re.findall("[0-4]", text)[:2]), 5) for text in texts], range(25))


def test_the_hidden_token_may_be_any_one() -> None:
    for length in (9, 10):
        inputs, _, _ = draw("code", "missing_duplicate", length, 4000)
        assert_uniform((inputs == 2).argmax(axis=1), range(2 * (length // 2)))
    inputs, target, _ = draw("code", "solve_equation", 13, 4000)
    three = inputs[((inputs < 5) | (inputs == 9)).sum(axis=1) == 4]  # three digits and the value
    ranks = [[token for token in row if token < 5 or token == 9].index(9) for row in three.tolist()]
    assert_uniform(ranks, range(3))
    assert_uniform(target, range(5))


@pytest.mark.parametrize("name", ["binary_addition", "binary_multiplication"])
def test_operands_are_uniform(name: str) -> None:
    inputs, _, _ = draw("code", name, 8, 6000)
    sizes = (inputs == 2).argmax(axis=1)
    assert_uniform(sizes, range(1, 7))
    assert_uniform(inputs[sizes == 3, :3] @ np.array([1, 2, 4]), range(1, 8))
    assert_uniform(inputs[sizes == 4, 5:] @ np.array([1, 2, 4]), range(1, 8))
    assert_uniform(draw("code", name, 2, 3000)[0] @ np.array([1, 2]), range(1, 4))


@pytest.mark.parametrize("convention", ["code", "paper"])
def test_square_roots_are_of_uniform_numbers(convention: str) -> None:
    assert_uniform(draw(convention, "compute_sqrt", 3, 4000)[0] @ np.array([4, 2, 1]), range(1, 8))


@functools.cache
def every_expression(length: int, operators: str) -> list[str]:
    if length < 5:
        return [["{}", "-{}", "({})", "(-{})"][length - 1].format(digit) for digit in "01234"]
    splits = [(every_expression(left, operators), every_expression(length - 3 - left, operators)) for left in range(1, length - 3)]
    return [f"({a}{op}{b})" for lefts, rights in splits for a, op, b in itertools.product(lefts, operators, rights)]


def every_equation(length: int, operators: str) -> Iterator[str]:
    for text in every_expression(length - 2, operators):
        value = evaluate(text)
        yield from (f"{text[:place]}x{text[place + 1 :]}={value}" for place in range(len(text)) if text[place].isdigit())


def distinct_inputs(rule: Rule, convention: str, name: str, length: int) -> int:
    operators = "+-" if convention == "code" else "+-*"
    if name == "modular_arithmetic_brackets" and length >= 5:
        return len(set(every_expression(length, "+-*")))
    if name == "solve_equation" and length >= 7:
        return len(set(every_equation(length, operators)))
    return len(np.unique(rule.generate(example_keys(name, 2, np.arange(8000)), length)[0], axis=0))


@every_case
def test_log2_inputs_counts_the_distinct_inputs(convention: str, name: str) -> None:
    """By enumeration where expressions nest (up to 9 tokens), by exhausting a small space with many draws elsewhere."""
    rule, limit = RULES[convention][name], {"modular_arithmetic_brackets": 9, "solve_equation": 11}.get(name)
    lengths = [length for length in range(1, 12) if (length <= limit if limit else rule.log2_inputs(length) < 8.2)]
    assert len(lengths) >= 3
    for length in lengths:
        assert 2 ** rule.log2_inputs(length) == pytest.approx(distinct_inputs(rule, convention, name, length), rel=1e-9), length
    assert 30 < rule.log2_inputs(100) < rule.log2_inputs(501) < 1200


@pytest.mark.parametrize("name", ["parity_check", "cycle_navigation"])
def test_states_are_the_answers_of_prefixes_and_carry_the_next(name: str) -> None:
    inputs, target, _ = draw("code", name, 25, 60)
    find_states = RULES["code"][name].states or pytest.fail("no states")
    states = find_states(inputs)
    assert np.array_equal(states[:, -1:], target) and np.array_equal(states, find_states(inputs.astype(np.uint8)))
    following: dict[tuple[int, int], int] = {}
    for tokens, row in zip(inputs.tolist(), states.tolist(), strict=True):
        for end, state in enumerate(row):
            assert [[state]] == ORACLE[name](tokens[: end + 1], "code")
            assert following.setdefault((row[end - 1] if end else 0, tokens[end]), state) == state
