"""Our parts of Datasette's own pages: search box, pictures, links in menus."""
