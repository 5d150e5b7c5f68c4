"""Channel permutation: which axes of a model can be reordered together, the search for an order, and folding it into the weights."""
