"""Machines as values: their specification, energy, intervals and presets."""
