"""arXiv 2405.00949: what it published, what its rows say for each of its claims, and ours beside it."""
