"""The text in pictures, as lines in a table."""
