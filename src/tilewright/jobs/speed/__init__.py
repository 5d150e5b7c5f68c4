"""Speed compared with the dense engines that a user would otherwise run."""
