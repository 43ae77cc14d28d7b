"""
Files -> rows: `scan` finds what changed, `survey` what there is to do, `pipeline` runs the whole.
Vectors of other programs -> rows: `vector_sources` reads them, `vector_matching` finds whose they are,
`vector_import` runs the whole.
"""
