"""Pages and pictures in Datasette. `compat` holds what differs between Datasette 0.65 and 1.0."""
