"""Speed beside the dense engines that a user would run instead."""
