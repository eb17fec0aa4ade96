"""Prediction of large structures a part of their pairs at a time: the same numbers, in a given memory, on many machines."""
