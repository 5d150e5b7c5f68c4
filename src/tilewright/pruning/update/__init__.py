"""Updates of the kept weights that make up for the pruned ones: second-order, by least squares, and of biases."""
