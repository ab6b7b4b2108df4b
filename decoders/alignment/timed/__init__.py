"""RSA over time: RDMs of every moment of trials of sensors, and what is inferred from them."""
