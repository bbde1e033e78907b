"""From a model to its units: literal tables of module names, one file a family."""
