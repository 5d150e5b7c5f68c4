"""Studies that test each paper's claim on real data with small, fully trained models. Run one with ``python -m studies.NAME``."""
