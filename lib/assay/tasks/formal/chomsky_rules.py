"""Fifteen formal-language tasks, each with a vectorized NumPy generator that also returns the answers.

Source: Deletang et al., "Neural Networks and the Chomsky Hierarchy", ICLR 2023, arXiv 2207.02098 (written from the definitions). Where the
paper's text and its released code differ, there are two conventions. "code" is the default, because it produced the published numbers:
odds_first emits x[1::2] then x[0::2], modular_arithmetic shortens an even length, compute_sqrt is big-endian, solve_equation has + and -.
"paper" follows the text: x[0::2] then x[1::2], an even length grows, little-endian, and * (token 11) as well.

    inputs, target, counted = RULES["code"]["parity_check"].generate(example_keys("parity/train", seed, indices), length)
"""

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from assay.core.rng import integers

PLUS, MINUS, TIMES, OPEN, CLOSE = 5, 6, 7, 8, 9  # after the digits 0-4, in both modular arithmetics
UNKNOWN, EQUALS = 9, 10  # in solve_equation, whose own order has no product
EQUATION_TOKENS = np.array([0, 1, 2, 3, 4, 5, 6, 11, 7, 8])  # arithmetic token -> solve_equation token
MANY = 200  # beyond this many tokens expressions practically never coincide, so longer ones are not counted
END = 2  # terminator of targets with variable length

Examples = tuple[np.ndarray, np.ndarray, np.ndarray]


class Rule(NamedTuple):
    """A task. Lengths are nominal, from 1: the paper's length of the input sequence."""

    inputs: int  # size of the input vocabulary
    outputs: int  # classes of each output position
    slots: Callable[[int], int]  # length -> output positions
    width: Callable[[int], int]  # length -> input tokens
    generate: Callable[[np.ndarray, int], Examples]  # keys [n], length -> input [n, width], target [n, slots], counted [n]
    log2_inputs: Callable[[int], float]  # length -> log2 of the number of distinct inputs
    # Input [n, length] -> the answer of every prefix, if that answer and the next symbol determine the next answer; otherwise None.
    states: Callable[[np.ndarray], np.ndarray] | None = None


# Every generator maps keys [n] and a length to (input, target, counted). `counted` is the number of leading target positions that are
# scored: up to and including the terminator if there is one, otherwise all. Example i depends on keys[i] and the length alone.


def parity_check(keys: np.ndarray, length: int) -> Examples:
    """Returns whether the number of ones is odd."""
    bits = integers(keys, "bits", length, 2)
    return _all_counted(bits, bits.sum(axis=1, keepdims=True) % 2)


def even_pairs(keys: np.ndarray, length: int) -> Examples:
    """Returns whether the number of 01 and 10 pairs is odd, which holds if and only if the ends differ."""
    bits = integers(keys, "bits", length, 2)
    return _all_counted(bits, bits[:, :1] ^ bits[:, -1:])


def cycle_navigation(keys: np.ndarray, length: int) -> Examples:
    """Returns the position on a cycle of five after steps back (0), none (1) and forth (2)."""
    moves = integers(keys, "moves", length, 3)
    return _all_counted(moves, (moves - 1).sum(axis=1, keepdims=True) % 5)


def modular_arithmetic(keys: np.ndarray, length: int, even_change: int) -> Examples:
    """Returns the value modulo 5 of digits joined by + - *, with precedence of the product. An even length changes by `even_change`."""
    width = _odd(length, even_change)
    tokens = np.empty((len(keys), width), np.int64)
    tokens[:, ::2] = integers(keys, "digits", width // 2 + 1, 5)
    tokens[:, 1::2] = PLUS + integers(keys, "operators", width // 2, 3)
    total, term = np.zeros(len(keys), np.int64), tokens[:, 0]
    for place in range(1, width, 2):
        operator, digit = tokens[:, place], tokens[:, place + 1]
        product = operator == TIMES
        total = np.where(product, total, total + term) % 5
        term = np.where(product, term * digit, np.where(operator == MINUS, -digit, digit)) % 5
    return _all_counted(tokens, ((total + term) % 5)[:, None])


def reverse_string(keys: np.ndarray, length: int) -> Examples:
    """Returns the bits from last to first."""
    bits = integers(keys, "bits", length, 2)
    return _all_counted(bits, bits[:, ::-1].copy())


def stack_manipulation(keys: np.ndarray, length: int) -> Examples:
    """Returns the final stack from top to bottom; the input is a stack from bottom to top, then POP (2), PUSH 0 (3), PUSH 1 (4).

    The stack has U{1..length-1} bits (one at length 1). POP leaves an empty stack unchanged.
    """
    given = 1 + integers(keys, "given", 1, max(length - 1, 1))
    actions = 2 + integers(keys, "actions", length, 3)
    tokens = np.where(np.arange(length) < given, integers(keys, "bits", length, 2), actions)
    rows, height = np.arange(len(keys)), np.zeros(len(keys), np.int64)
    stack = np.zeros((len(keys), length), np.int64)
    for token in tokens.T:
        # An initial bit is also a push. What POP writes lies above the top, where the next push overwrites it.
        stack[rows, height] = token % 3
        height = np.where(token == 2, np.maximum(height - 1, 0), height + 1)
    downward = np.maximum(height[:, None] - 1 - np.arange(length), 0)
    return tokens, *_terminated(np.take_along_axis(stack, downward, axis=1), height)


def modular_arithmetic_brackets(keys: np.ndarray, length: int) -> Examples:
    """Returns the value modulo 5 of a fully bracketed expression of exactly `length` tokens."""
    tokens, values = _expressions(keys, length, operators=3)
    return _all_counted(tokens, values[:, None])


def solve_equation(keys: np.ndarray, length: int, operators: int) -> Examples:
    """Returns the digit hidden behind x in `expression = value`. Lengths below 3 are too short for an equation: zeros, answer 0.

    With products (`operators=3`) the hidden digit is one solution, not always the only one.
    """
    if length < 3:
        return _all_counted(np.zeros((len(keys), length), np.int64), np.zeros((len(keys), 1), np.int64))
    tokens, values = _expressions(keys, length - 2, operators)
    digits = tokens < 5
    rank = 1 + integers(keys, "hidden", 1, digits.sum(axis=1))
    place = (np.cumsum(digits, axis=1) == rank).argmax(axis=1)[:, None]
    target = np.take_along_axis(tokens, place, axis=1)
    equation = np.concatenate([EQUATION_TOKENS[tokens], np.full((len(keys), 1), EQUALS), values[:, None]], axis=1)
    np.put_along_axis(equation, place, UNKNOWN, axis=1)
    return _all_counted(equation, target)


def duplicate_string(keys: np.ndarray, length: int) -> Examples:
    """Returns the bits twice."""
    bits = integers(keys, "bits", length, 2)
    return _all_counted(bits, np.tile(bits, 2))


def missing_duplicate(keys: np.ndarray, length: int) -> Examples:
    """Returns the bit hidden behind one token 2 in a doubled string. An odd length ends with a token 3; length 1 is [1], answer 1."""
    if length == 1:
        return _all_counted(np.ones((len(keys), 1), np.int64), np.ones((len(keys), 1), np.int64))
    half = length // 2
    tokens = np.full((len(keys), length), 3)
    tokens[:, : 2 * half] = np.tile(integers(keys, "bits", half, 2), 2)
    place = integers(keys, "hidden", 1, 2 * half)
    target = np.take_along_axis(tokens, place, axis=1)
    np.put_along_axis(tokens, place, 2, axis=1)
    return _all_counted(tokens, target)


def odds_first(keys: np.ndarray, length: int, first: int) -> Examples:
    """Returns every second bit from index `first`, then the others."""
    bits = integers(keys, "bits", length, 2)
    return _all_counted(bits, np.concatenate([bits[:, first::2], bits[:, 1 - first :: 2]], axis=1))


def binary_addition(keys: np.ndarray, length: int) -> Examples:
    """Returns the sum of two little-endian numbers joined by a token 2; below length 3, a single number."""
    if length < 3:
        return _single_number(keys, length)
    tokens, first, second = _operands(keys, length)
    total, carry = np.empty_like(first), np.zeros(len(keys), np.int64)
    for place in range(length):
        column = first[:, place] + second[:, place] + carry
        total[:, place], carry = column & 1, column >> 1
    return tokens, *_terminated(total, _bit_length(total))


def binary_multiplication(keys: np.ndarray, length: int) -> Examples:
    """Returns the product of two little-endian numbers joined by a token 2; below length 3, a single number."""
    if length < 3:
        return _single_number(keys, length)
    tokens, first, second = _operands(keys, length)
    product = _to_bits([a * b for a, b in zip(_to_numbers(first), _to_numbers(second), strict=True)], length)
    target, counted = _terminated(product, _bit_length(product))
    return tokens, target[:, :length], counted  # a product has fewer bits than there are tokens


def compute_sqrt(keys: np.ndarray, length: int, big_endian: bool) -> Examples:
    """Returns the integer square root of a number U{1..2^length-1}, in ceil(length/2) bits."""
    bits = _positive_bits(keys, "bits", length, length)
    root = _to_bits([math.isqrt(number) for number in _to_numbers(bits)], (length + 1) // 2)
    return _all_counted(bits[:, ::-1].copy(), root[:, ::-1].copy()) if big_endian else _all_counted(bits, root)


def bucket_sort(keys: np.ndarray, length: int) -> Examples:
    """Returns the tokens in ascending order."""
    tokens = integers(keys, "tokens", length, 5)
    return _all_counted(tokens, np.sort(tokens, axis=1))


def _all_counted(inputs: np.ndarray, target: np.ndarray) -> Examples:
    return inputs, target, np.full(len(target), target.shape[1])


def _terminated(symbols: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first `counts` symbols of each row, the terminator and zeros, one column wider; and how many of them are scored."""
    place, counts = np.arange(symbols.shape[1] + 1), counts[:, None]
    target = np.where(place < counts, np.pad(symbols, ((0, 0), (0, 1))), np.where(place == counts, END, 0))
    return target, counts[:, 0] + 1


def _odd(length: int, even_change: int) -> int:
    return length if length % 2 else length + even_change


def _expressions(keys: np.ndarray, length: int, operators: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random bracketed expressions, tokens [n, length], with their values modulo 5 [n].

    By length: 1 `d`, 2 `-d`, 3 `(d)`, 4 `(-d)`, otherwise `(L o R)` with len(L) ~ U{1..length-4}; o is one of the first `operators` of + -
    *. It processes one level of all trees at a time, downwards to write the tokens, upwards to evaluate. A node draws from its own position
    in the example's slots: no two nodes start at the same token.
    """
    splits = integers(keys, "splits", length, 2**32)
    digits = integers(keys, "digits", length, 5)
    choices = integers(keys, "operators", length, operators)
    tokens = np.zeros((len(keys), length), np.int64)
    row, start, size = np.arange(len(keys)), np.zeros(len(keys), np.int64), np.full(len(keys), length)
    levels = []
    while len(row):
        bracketed, inner = size >= 3, size >= 5
        tokens[row[bracketed], start[bracketed]] = OPEN
        tokens[row[bracketed], (start + size - 1)[bracketed]] = CLOSE

        place = start + size // 2
        negative = ~inner & (size % 2 == 0)
        tokens[row[negative], place[negative] - 1] = MINUS
        digit = digits[row, place]
        tokens[row[~inner], place[~inner]] = digit[~inner]

        row, start, size = row[inner], start[inner], size[inner]
        left = 1 + (splits[row, start] * (size - 4) >> 32)
        middle = start + 1 + left
        choice = choices[row, middle]
        tokens[row, middle] = PLUS + choice
        levels.append((np.where(negative, -digit, digit) % 5, inner, choice))

        row = np.concatenate([row, row])
        start, size = np.concatenate([start + 1, middle + 1]), np.concatenate([left, size - 3 - left])

    below = np.zeros(0, np.int64)
    for values, inner, choice in reversed(levels):
        left, right = np.split(below, 2)
        values[inner] = np.choose(choice, [left + right, left - right, left * right]) % 5
        below = values
    return tokens, below


def _positive_bits(keys: np.ndarray, slot: str, width: int, size: int | np.ndarray) -> np.ndarray:
    """Draws little-endian numbers U{1..2^size-1} in `width` bits; `size` is one number for all rows or [n, 1]."""
    inside = np.broadcast_to(np.arange(width) < size, (len(keys), width))
    bits = integers(keys, slot, width, 2) * inside
    attempt = 0
    # Rejection keeps the number uniform at any size; drawing the number itself would be limited to 32 bits.
    while len(zero := np.flatnonzero(~bits.any(axis=1))):
        attempt += 1
        bits[zero] = integers(keys[zero], f"{slot}, attempt {attempt}", width, 2) * inside[zero]
    return bits


def _operands(keys: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the tokens `n 2 m`, and the bits of n and of m, all [n, length]."""
    size = 1 + integers(keys, "size", 1, length - 2)
    first = _positive_bits(keys, "first", length, size)
    second = _positive_bits(keys, "second", length, length - 1 - size)
    place = np.arange(length)
    shifted = np.take_along_axis(second, np.maximum(place - size - 1, 0), axis=1)
    return np.where(place < size, first, np.where(place == size, 2, shifted)), first, second


def _single_number(keys: np.ndarray, length: int) -> Examples:
    """Returns the number itself as the answer, for lengths without room for an operator."""
    bits = _positive_bits(keys, "first", length, length)
    return bits, *_terminated(bits, _bit_length(bits))


def _bit_length(bits: np.ndarray) -> np.ndarray:
    """Returns one more than the position of the last one in each row; no row may be zero."""
    return bits.shape[1] - bits[:, ::-1].argmax(axis=1)


def _to_numbers(bits: np.ndarray) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in np.packbits(bits.astype(np.uint8), axis=1, bitorder="little")]


def _to_bits(numbers: list[int], width: int) -> np.ndarray:
    size = (width + 7) // 8
    packed = np.frombuffer(b"".join(number.to_bytes(size, "little") for number in numbers), np.uint8).reshape(-1, size)
    return np.unpackbits(packed, axis=1, count=width, bitorder="little").astype(np.int64)


@functools.cache
def _count_expressions(length: int, operators: int) -> tuple[int, int, int, int]:
    """Counts expressions: all, those with value 0, all with one digit hidden, and those of them whose value depends on the digit.

    The grammar is unambiguous, so trees and strings correspond. The values 1 to 4 are equally frequent in a leaf, and therefore in + - * of
    two.
    """
    if length < 5:
        return 5, 1, 1, 1
    products = operators - 2
    pairs = zero_pairs = other_pairs = hidden_pairs = live_pairs = live_other = 0
    for left in range(1, length - 3):  # ascending, so that the recursion stays two deep
        total, zero, hidden, live = _count_expressions(left, operators)
        right, right_zero, *_ = _count_expressions(length - 3 - left, operators)
        pairs += total * right
        zero_pairs += zero * right_zero
        other_pairs += (total - zero) * (right - right_zero)
        hidden_pairs += 2 * hidden * right  # twice: the digit may be hidden on either side
        live_pairs += 2 * live * right
        live_other += 2 * live * (right - right_zero)  # a factor of 0 makes the digit irrelevant
    zeros = 2 * (zero_pairs + other_pairs // 4) + products * (pairs - other_pairs)
    return operators * pairs, zeros, operators * hidden_pairs, 2 * live_pairs + products * live_other


def _log2_arithmetic(length: int, even_change: int) -> float:
    return math.log2(5) + _odd(length, even_change) // 2 * math.log2(15)  # a digit, then pairs of operator and digit


def _log2_stack(length: int) -> float:
    return math.log2(sum(2**given * 3 ** (length - given) for given in range(1, length))) if length > 1 else 1.0


def _log2_brackets(length: int) -> float:
    return math.log2(_count_expressions(min(length, MANY), operators=3)[0])


def _log2_equation(length: int, operators: int) -> float:
    if length < 3:
        return 0.0
    _, _, hidden, live = _count_expressions(min(length, MANY) - 2, operators)
    return math.log2(hidden + 4 * live)  # a digit that matters gives five equations, another one gives one


def _log2_missing(length: int) -> float:
    return length // 2 + math.log2(2 * (length // 2)) if length > 1 else 0.0


def _log2_binary(length: int) -> float:
    pairs = ((2**size - 1) * (2 ** (length - 1 - size) - 1) for size in range(1, length - 1))
    return math.log2(sum(pairs) if length > 2 else 2**length - 1)


def _rules(paper: bool) -> Mapping[str, Rule]:
    def one(length: int) -> int:
        del length
        return 1

    def same(length: int) -> int:
        return length

    def longer(length: int) -> int:  # room for the terminator
        return length + 1

    def product(length: int) -> int:  # a product has as many bits as both numbers together; a single number stays itself
        return length if length > 2 else length + 1

    even_change, operators = (1, 3) if paper else (-1, 2)
    return MappingProxyType(
        {
            "parity_check": Rule(2, 2, one, same, parity_check, float, states=lambda bits: np.cumsum(bits, axis=1) % 2),
            # The answer is not a state: the next one also depends on the last bit.
            "even_pairs": Rule(2, 2, one, same, even_pairs, float),
            "cycle_navigation": Rule(
                inputs=3,
                outputs=5,
                slots=one,
                width=same,
                generate=cycle_navigation,
                log2_inputs=lambda length: length * math.log2(3),
                states=lambda moves: np.cumsum(moves + 4, axis=1) % 5,  # + 4 equals - 1 modulo 5, and also works for unsigned tokens
            ),
            "modular_arithmetic": Rule(
                inputs=9,  # the published vocabulary keeps an id 8 that is never used
                outputs=5,
                slots=one,
                width=functools.partial(_odd, even_change=even_change),
                generate=functools.partial(modular_arithmetic, even_change=even_change),
                log2_inputs=functools.partial(_log2_arithmetic, even_change=even_change),
            ),
            "reverse_string": Rule(2, 2, same, same, reverse_string, float),
            "stack_manipulation": Rule(5, 3, longer, same, stack_manipulation, _log2_stack),
            "modular_arithmetic_brackets": Rule(10, 5, one, same, modular_arithmetic_brackets, _log2_brackets),
            "solve_equation": Rule(
                inputs=12 if paper else 11,
                outputs=5,
                slots=one,
                width=same,
                generate=functools.partial(solve_equation, operators=operators),
                log2_inputs=functools.partial(_log2_equation, operators=operators),
            ),
            "duplicate_string": Rule(2, 2, lambda length: 2 * length, same, duplicate_string, float),
            "missing_duplicate": Rule(4, 2, one, same, missing_duplicate, _log2_missing),
            "odds_first": Rule(2, 2, same, same, functools.partial(odds_first, first=0 if paper else 1), float),
            "binary_addition": Rule(3, 3, longer, same, binary_addition, _log2_binary),
            "binary_multiplication": Rule(3, 3, product, same, binary_multiplication, _log2_binary),
            "compute_sqrt": Rule(
                inputs=2,
                outputs=2,
                slots=lambda length: (length + 1) // 2,
                width=same,
                generate=functools.partial(compute_sqrt, big_endian=not paper),
                log2_inputs=lambda length: math.log2(2**length - 1),
            ),
            "bucket_sort": Rule(5, 5, same, same, bucket_sort, lambda length: length * math.log2(5)),
        }
    )


# Defined last, because it needs everything above.
RULES: Mapping[str, Mapping[str, Rule]] = MappingProxyType({"code": _rules(paper=False), "paper": _rules(paper=True)})
