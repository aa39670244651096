"""Text generators, in the order of the road; one file a system."""
