"""Models on disk: saving, loading, and opening packed folders with other libraries."""
