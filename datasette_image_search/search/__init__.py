"""Query -> vector -> plan -> hits: `query` reads what was typed, `sidecar` and `live` hold the vectors, `planner` finds."""
