"""Distillation from the dense model: losses, recovery, and progressive replacement of the teacher's blocks."""
