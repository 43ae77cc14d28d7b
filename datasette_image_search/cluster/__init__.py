"""A Ray cluster: its head, its nodes, and what waits for them."""
