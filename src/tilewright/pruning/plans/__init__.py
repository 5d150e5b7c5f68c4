"""A pattern for every layer: sensitivity is scanned, and the best choice within a limit is found."""
