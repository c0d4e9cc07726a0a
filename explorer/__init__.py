"""Explore the space of sub-networks that pruning can make out of a trained network."""
