"""
Files -> rows: `scan` finds what changed, `survey` finds the work, `pipeline` runs the whole.
Vectors of other programs -> rows: `vector_sources` reads them, `vector_matching` finds whose they are,
`vector_import` runs the whole.
"""
