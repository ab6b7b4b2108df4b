"""One offline page per study; it computes no score."""
