"""Models on disk: saving, loading, and opening packed checkpoints with other libraries."""
