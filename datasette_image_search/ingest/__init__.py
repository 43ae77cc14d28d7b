"""
Files -> rows: `scan` finds what changed, `decode` and `exif` read a file, `pipeline` runs the whole.
Vectors of other programs -> rows: `vector_sources` reads them, `vector_matching` finds whose they are,
`vector_import` runs the whole.
"""
