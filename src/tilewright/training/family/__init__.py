"""Families of n:m models, each of which inherits from the one before it."""
