"""Pruning in other trainers: `adapters.hf.SparsityCallback` for a Hugging Face ``Trainer``, `adapters.lightning.SparsityCallback` for a
Lightning one. Your own loop needs no adapter, only the three lines shown in `Sparsifier`.

Each module imports its framework; importing this package imports neither.
"""
