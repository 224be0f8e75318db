"""New training pairs out of those that there are, without knowing the language they are in (after Andreas 2020, "Good-enough compositional
data augmentation", arXiv 1904.09545).

exchanges      two pairs that differ by one input token and one target token show that these stand in for each other: `walk -> WALK`,
               `jump -> JUMP`. They are exchanged everywhere.
substitutions  a pair that stands inside another, `walk left -> TURN WALK` in `walk left thrice -> TURN WALK TURN WALK TURN WALK`, leaves a
               frame, `_ thrice -> _ _ _`. A pair that fills all frames of another, as far as their lengths are known, can take its
               place, and what is made so can stand wherever its model stood. This makes pairs longer than all that there are; what is
               no longer than those, and not among them, is taken for wrong.

A new pair is right as far as what is alike where it is seen is alike where it is not. All draws are functions of a seed. Sequences of
tokens are strings here, a character a token (`written`, `tokens_of`): what is done most is to replace parts of them.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Pair = tuple[str, str]  # input, target
Word = tuple[str, str]  # an input token, and the target token that goes with it

BLANK = chr(0x10FFFF)  # no token
FRAMES = 5  # that a pair fills, at least, to be a part of others and not two halves of parts
DEEPEST = 3  # substitutions inside one another


class Filled(NamedTuple):
    """A pair taken apart: a frame, which other pairs have too, and what fills it."""

    frame: Pair  # with BLANK at each place
    filler: Pair


def written(tokens: Iterable[int]) -> str:
    return "".join(map(chr, tokens))


def tokens_of(text: str) -> list[int]:
    return list(map(ord, text))


def exchangeable(pairs: Sequence[Pair]) -> list[list[Word]]:
    """Groups of words that stand in for each other, each of two or more, none of whose tokens has two partners."""
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
    """`count` pairs, each drawn from `pairs`, its exchangeable words permuted at random; none where there are no such words."""
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
    """Each pair's ways to be a frame and a filler. A filler is a pair itself, at all places where it stands, and fills several frames; a
    frame is filled by pairs of two different targets, which no chance resemblance of the target to a filler's is."""
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
            if BLANK in hole and hole == answer[::-1].replace(known[span][::-1], BLANK)[::-1]:  # else it is unclear where it stands
                found.append(Filled((given.replace(span, BLANK), hole), (span, known[span])))
                targets[found[-1].frame].add(known[span])
        ways[given, answer] = found
    ways = {pair: [way for way in found if len(targets[way.frame]) > 1] for pair, found in ways.items()}
    times = Counter(way.filler for found in ways.values() for way in found)
    return {pair: [way for way in found if times[way.filler] >= FRAMES] for pair, found in ways.items()}


def substitutions(pairs: Sequence[Pair], draws: int, longest: int, seed: int) -> list[Pair]:
    """Distinct pairs, found in so many draws, with more target tokens than any of `pairs` and at most `longest`, and no more input tokens
    than they have; none where no pair can take another's place."""
    ways = taken_apart(pairs)
    most, before = (max(len(pair[side]) for pair in pairs) for side in (0, 1))
    others = substitutes(ways, before)
    draw = random.Random(seed)

    def rewritten(pair: Pair, depth: int) -> Pair:
        """The pair, or one that is alike: its fillers replaced, and those rewritten in turn."""
        for _ in range(2):  # the second time whatever the first has left, such as the other side of an `and`
            options = ways.get(pair, []) if depth < DEEPEST else []
            if options:
                frame, filler = draw.choice(options)
                made = filled(frame, rewritten(draw.choice(others[filler]), depth + 1))
                pair = made if made in ways or len(made[1]) > before else pair
        return pair

    start = [pair for pair, found in ways.items() if found]
    votes: dict[str, Counter[str]] = defaultdict(Counter)  # for each input: a wrong way of taking apart is rarer than the right one
    for _ in range(draws if start else 0):
        given, answer = rewritten(draw.choice(start), 0)
        if len(given) <= most and before < len(answer) <= longest:
            votes[given][answer] += 1
    return [(given, found.most_common(1)[0][0]) for given, found in votes.items()]


def substitutes(ways: Mapping[Pair, Sequence[Filled]], longest: int) -> dict[Pair, list[Pair]]:
    """What can take the place of each filler, itself included: whatever makes a known pair of each of its frames, or one with more than
    `longest` target tokens."""
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
            for frame in own:  # half a million pairs of fillers: calls are what costs
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
    """Connected words, in order; what is linked to two partners is left out, since an exchange would not be one to one."""
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
