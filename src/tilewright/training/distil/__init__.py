"""Learning from the dense model: losses, recovery, and students whose blocks take their teacher's places."""
