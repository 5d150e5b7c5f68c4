"""The CPU kernels, compiled from `cpp/`."""
