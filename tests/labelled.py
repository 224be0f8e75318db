"""Examples with labels of four classes, in an order of no meaning, for tests of split functions."""

import numpy as np

N = 203
RANDOM = np.random.default_rng(0)
INDICES = RANDOM.choice(10_000, N, replace=False)
LABELS = np.array(["dog", "cat", "owl", "fox"])[RANDOM.choice(4, N, p=[0.5, 0.3, 0.15, 0.05])]
LABEL_OF = dict(zip(INDICES.tolist(), LABELS.tolist(), strict=True))
ORDER = RANDOM.permutation(N)


def counts(indices):
    """Returns how many examples of each class the indices name."""
    return np.array([sum(LABEL_OF[i] == name for i in indices.tolist()) for name in np.unique(LABELS)])
