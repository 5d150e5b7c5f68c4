"""Block-by-block pruning of models that do not fit into memory."""
