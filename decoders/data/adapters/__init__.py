"""One module per registered set of recordings: ``read_runs(folder, variant) -> list of Run``."""
