"""Pages and pictures in Datasette. Only `compat` knows the differences between Datasette 0.65 and 1.0."""
