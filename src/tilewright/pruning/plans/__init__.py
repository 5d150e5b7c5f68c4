"""A pattern for every layer: measure how sensitive each layer is, then find the best plan within a limit."""
