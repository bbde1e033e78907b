"""The bootstrap of a paired difference, by going through every resample there is."""

import itertools

import numpy as np


def every_resample(difference):
    """The means of all equally likely draws of seeds and examples; [S^S E^E]."""
    num_seeds, num_examples = difference.shape
    means = []
    for seeds in itertools.product(range(num_seeds), repeat=num_seeds):
        for examples in itertools.product(range(num_examples), repeat=num_examples):
            total = sum(difference[s][e] for s in seeds for e in examples)
            means.append(total / (num_seeds * num_examples))
    return np.array(means)
