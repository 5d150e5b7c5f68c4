"""Updates of the kept weights and of biases that compensate for what is pruned: second-order and by least squares."""
