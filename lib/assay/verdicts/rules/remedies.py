"""What each suggested treatment does, in a sentence, where it is from, and what it moved: `about("l2:weight=1e-3").does`.

What it moved is from experiments/results: `overfitting` (a CNN on 200 labelled digits, five seeds, accuracy on test), and the effects of
reasoning treatments.
"""

from collections.abc import Mapping
from typing import NamedTuple


class About(NamedTuple):
    """A treatment in words."""

    does: str
    source: str  # of the method
    moved: str = ""  # what it did when it was tried here


ABOUT: Mapping[str, About] = {
    "augment": About(
        "It trains on changed copies of the examples, drawn again in each pass.",
        "Shorten and Khoshgoftaar 2019",
        "accuracy on 200 labelled digits by +3.3 points",
    ),
    "average": About(
        "It evaluates an average of the parameters of the last steps.",
        "Polyak and Juditsky 1992",
        "accuracy on 200 labelled digits by -0.1 points, which may be chance",
    ),
    "balance": About("It gives each class the same total weight.", "King and Zeng 2001"),
    "calibrate": About("It divides the logits by one number, fitted on valid; answers stay the same.", "Guo et al. 2017"),
    "clip": About("It shortens gradients above a norm.", "Pascanu et al. 2013"),
    "couple": About("It gives tokens that belong together one position.", "Cho et al. 2024", "exact sums of 16 digits from .00 to .95"),
    "curriculum": About(
        "It begins with short inputs and lengthens them.", "Bengio et al. 2009", "parity of an LSTM at lengths 41-500 from .50 to .90"
    ),
    "distill": About("It trains a smaller model on the answers of this one.", "Hinton et al. 2015"),
    "dropout": About(
        "It leaves out random features in training.", "Srivastava et al. 2014", "accuracy on 200 labelled digits by +1.5 points"
    ),
    "early_stopping": About(
        "It keeps the parameters that were best on valid.",
        "Prechelt 1998",
        "accuracy on 200 labelled digits by -1.0 points, which may be chance",
    ),
    "l1": About(
        "It adds the absolute values of the weights to the loss.",
        "Tibshirani 1996",
        "accuracy on 200 labelled digits by +0.1 points, which may be chance",
    ),
    "l2": About(
        "It adds the squares of the weights to the loss.",
        "Krogh and Hertz 1991",
        "accuracy on 200 labelled digits by +0.2 points, which may be chance",
    ),
    "larger": About("It trains a model of twice the width from scratch, as long.", "Hestness et al. 2017"),
    "longer": About("It trains on, without another change.", "Hoffmann et al. 2022"),
    "prune": About("It removes the parts that matter least, and trains what is left.", "Han et al. 2015; Li et al. 2017"),
    "quantize": About("It stores weights as small integers.", "Dettmers et al. 2022"),
    "recombine": About("It exchanges parts of training examples that occur in the same places.", "Andreas 2020"),
    "reverse": About(
        "It has answers written from their last token to their first.", "Lee et al. 2023", "exact sums of 3 digits from .98 to 1.00"
    ),
    "scratchpad": About(
        "It has the state written out after each token of the input.", "Nye et al. 2021", "parity at lengths 41-500 from .50 to 1.00"
    ),
    "smooth": About("It trains on labels that leave some probability to the other classes.", "Szegedy et al. 2016"),
    "supervise": About(
        "It trains the state after each token, too, and not only the last one.",
        "Nye et al. 2021",
        "parity of an LSTM at lengths 41-500 from .50 to 1.00",
    ),
}


def about(spec: str) -> About:
    """Returns what a treatment does; for one that is not listed, such as one's own, empty texts."""
    return ABOUT.get(spec.partition(":")[0], About("", ""))
