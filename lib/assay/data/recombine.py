"""Builds new training pairs from existing ones without knowledge of the language (after Andreas 2020, "Good-enough compositional data
augmentation", arXiv 1904.09545).

exchanges      two pairs that differ in one input token and one target token show that these are interchangeable: `walk -> WALK`,
               `jump -> JUMP`. They are exchanged everywhere.
substitutions  a pair inside another, `walk left -> TURN WALK` in `walk left thrice -> TURN WALK TURN WALK TURN WALK`, leaves a frame,
               `_ thrice -> _ _ _`. A pair that fills all frames of another, as far as their lengths are known, can replace it, and the
               result can stand wherever its model stood. This produces pairs longer than any existing one. A result that is no longer than
               those, and not among them, is assumed to be wrong.

A new pair is correct if similarity in seen contexts extends to unseen ones. All draws are functions of a seed. Token sequences are strings
here, one character per token (`written`, `tokens_of`), because the most frequent operation is replacing substrings.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Pair = tuple[str, str]  # input, target
Word = tuple[str, str]  # an input token and its corresponding target token

BLANK = chr(0x10FFFF)  # not a token
FRAMES = 5  # frames that a pair must fill to be a part of others, rather than two halves of parts
DEEPEST = 3  # maximum depth of nested substitutions


class Filled(NamedTuple):
    """A decomposed pair: a frame, which other pairs share, and its filler."""

    frame: Pair  # with BLANK at each position of the filler
    filler: Pair


def written(tokens: Iterable[int]) -> str:
    return "".join(map(chr, tokens))


def tokens_of(text: str) -> list[int]:
    return list(map(ord, text))


def exchangeable(pairs: Sequence[Pair]) -> list[list[Word]]:
    """Returns groups of two or more interchangeable words; no token of theirs has two partners."""
    frames: dict[Pair, set[Word]] = defaultdict(set)
    for given, answer in dict.fromkeys(pairs):
        for word in set(given):
            frame = given.replace(word, BLANK)
            for one in set(answer):
                frames[frame, answer.replace(one, BLANK)].add((word, one))
    alike: dict[Word, set[Word]] = defaultdict(set)
    for found in frames.values():
        for a in found:
            alike[a] |= {b for b in found if a[0] != b[0] and a[1] != b[1]}
    return [group for group in _components(alike) if len(group) > 1]


def exchanges(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """Returns `count` pairs, each drawn from `pairs` with its exchangeable words permuted at random; none if no words are exchangeable."""
    groups = exchangeable(pairs)
    draw = random.Random(seed)
    made = []
    for _ in range(count if groups else 0):
        words, ones = {}, {}
        for group in groups:
            for (word, one), (other, another) in zip(group, draw.sample(group, len(group)), strict=True):
                words[ord(word)], ones[ord(one)] = other, another
        given, answer = draw.choice(pairs)
        made.append((given.translate(words), answer.translate(ones)))
    return made


def taken_apart(pairs: Sequence[Pair]) -> dict[Pair, list[Filled]]:
    """Returns each pair's decompositions into a frame and a filler.

    A filler is itself a pair, stands at all its occurrences, and fills several frames. A frame must be filled by pairs of two different
    targets, which excludes chance resemblance between the target and a filler's.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for given, answer in pairs:
        answers[given].add(answer)
    known = {given: next(iter(found)) for given, found in answers.items() if len(found) == 1}
    ways: dict[Pair, list[Filled]] = {}
    targets: dict[Pair, set[str]] = defaultdict(set)
    for given, answer in dict.fromkeys(pairs):
        spans = {given[i:j] for i in range(len(given)) for j in range(i + 1, len(given) + 1)} - {given}
        found = []
        for span in sorted(spans & known.keys()):
            hole = answer.replace(known[span], BLANK)
            if BLANK in hole and hole == answer[::-1].replace(known[span][::-1], BLANK)[::-1]:  # otherwise its position is ambiguous
                found.append(Filled((given.replace(span, BLANK), hole), (span, known[span])))
                targets[found[-1].frame].add(known[span])
        ways[given, answer] = found
    ways = {pair: [way for way in found if len(targets[way.frame]) > 1] for pair, found in ways.items()}
    times = Counter(way.filler for found in ways.values() for way in found)
    return {pair: [way for way in found if times[way.filler] >= FRAMES] for pair, found in ways.items()}


def substitutions(pairs: Sequence[Pair], draws: int, longest: int, seed: int) -> list[Pair]:
    """Returns distinct pairs found in `draws` draws, with more target tokens than any of `pairs` but at most `longest`.

    They have no more input tokens than the longest of `pairs`. The result is empty if no pair can replace another.
    """
    ways = taken_apart(pairs)
    most, before = (max(len(pair[side]) for pair in pairs) for side in (0, 1))
    others = substitutes(ways, before)
    draw = random.Random(seed)

    def rewritten(pair: Pair, depth: int) -> Pair:
        """Returns the pair, or a similar one: its fillers are replaced, and those rewritten in turn."""
        for _ in range(2):  # the second pass handles what the first has left, such as the other side of an `and`
            options = ways.get(pair, []) if depth < DEEPEST else []
            if options:
                frame, filler = draw.choice(options)
                made = filled(frame, rewritten(draw.choice(others[filler]), depth + 1))
                pair = made if made in ways or len(made[1]) > before else pair
        return pair

    start = [pair for pair, found in ways.items() if found]
    votes: dict[str, Counter[str]] = defaultdict(Counter)  # for each input: a wrong decomposition is rarer than the right one
    for _ in range(draws if start else 0):
        given, answer = rewritten(draw.choice(start), 0)
        if len(given) <= most and before < len(answer) <= longest:
            votes[given][answer] += 1
    return [(given, found.most_common(1)[0][0]) for given, found in votes.items()]


def substitutes(ways: Mapping[Pair, Sequence[Filled]], longest: int) -> dict[Pair, list[Pair]]:
    """Returns the possible replacements of each filler, itself included.

    A replacement forms a known pair with each of the filler's frames, or one with more than `longest` target tokens.
    """
    frames: dict[Pair, set[Pair]] = defaultdict(set)
    for filled_by in ways.values():
        for frame, filler in filled_by:
            frames[filler].add(frame)
    shapes = {frame: (len(frame[1]) - frame[1].count(BLANK), frame[1].count(BLANK)) for own in frames.values() for frame in own}
    found: dict[Pair, list[Pair]] = {}
    for one, own in frames.items():
        found[one] = []
        for other in frames:
            given, answer, theirs = other[0], other[1], frames[other]
            for frame in own:  # half a million pairs of fillers: function calls dominate the cost
                if frame in theirs:
                    continue
                rest, blanks = shapes[frame]
                if rest + blanks * len(answer) > longest:
                    continue
                if (frame[0].replace(BLANK, given), frame[1].replace(BLANK, answer)) not in ways:
                    break
            else:
                found[one].append(other)
    return found


def filled(frame: Pair, filler: Pair) -> Pair:
    return frame[0].replace(BLANK, filler[0]), frame[1].replace(BLANK, filler[1])


# -- private --------------------------------------------------------------------------------------------------------------


def _components(alike: dict[Word, set[Word]]) -> list[list[Word]]:
    """Returns the connected components of words, in order; words linked to two partners are left out, since an exchange would not be one to
    one.
    """
    linked = [word for word in sorted(alike) if alike[word]]
    for side in (0, 1):
        tokens = [word[side] for word in linked]
        linked = [word for word in linked if tokens.count(word[side]) == 1]
    left, groups = set(linked), []
    for word in linked:
        group, border = [], [word] if word in left else []
        left.discard(word)
        while border:
            group.append(border.pop())
            near = alike[group[-1]] & left
            left -= near
            border += sorted(near)
        groups.append(sorted(group))
    return groups
