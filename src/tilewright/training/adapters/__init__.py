"""Pruning in other people's loops: `adapters.hf.SparsityCallback` for a Hugging Face ``Trainer``, `adapters.lightning.SparsityCallback`
for a Lightning one. A loop of your own needs no adapter but three lines, see `Sparsifier`.

Each module imports its framework; importing this package imports neither.
"""
