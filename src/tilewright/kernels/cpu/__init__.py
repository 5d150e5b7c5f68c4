"""The kernels of this machine's processor, compiled from `cpp/`."""
