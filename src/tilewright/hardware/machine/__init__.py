"""Machines as values: specification, energy, intervals and presets."""
