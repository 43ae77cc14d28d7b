"""Pictures and words -> vectors. `protocol` says what an embedder is, `registry` finds one by its id."""
