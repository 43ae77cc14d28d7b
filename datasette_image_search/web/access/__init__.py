"""Permissions of tables: the image table of a request, side tables, and the actor who asks."""
