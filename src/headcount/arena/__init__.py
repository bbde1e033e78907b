"""Methods against each other: a grid of methods, numbers of heads and seeds on one task."""
