"""Our own pages: the search page and the map, also as JSON and CSV."""
