"""What can be decoded from the recordings: names, text windows, and the voxels that carry them."""
