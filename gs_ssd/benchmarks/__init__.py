"""Public benchmarks in their own file layouts, and the published tables to set results beside."""
