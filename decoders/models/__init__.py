"""Networks with taps, their trainer, read-outs and ridge regression."""
