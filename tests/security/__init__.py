"""Attacks on a server that runs, as strangers would try them. Each module has a kind of them."""
