"""Recipes: the YAML text, its validated form, and the schema."""
