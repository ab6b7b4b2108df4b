"""One module per family of learning rules."""
