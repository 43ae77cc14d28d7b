"""Facets of all kinds: how they are counted for our pages, and the kinds that Datasette lacks."""
