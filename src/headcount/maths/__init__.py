"""Pure functions on tensors: tensors in, tensors out, generators passed in, nothing in place."""
