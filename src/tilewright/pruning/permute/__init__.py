"""Channel permutation: axes of a model that may be reordered together, the search for an order, and folding it into the weights."""
