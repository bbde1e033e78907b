"""Methods against each other: a grid of methods, budgets and seeds on one task."""
