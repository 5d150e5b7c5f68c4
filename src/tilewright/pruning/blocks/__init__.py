"""Pruning of a model that does not fit into memory, block by block."""
