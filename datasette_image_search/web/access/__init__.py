"""Who sees which tables: the image table of a request, side tables, and who is asking."""
