"""Studies: each paper's claim tried on real data with small real models. Run one as ``python -m studies.NAME``."""
