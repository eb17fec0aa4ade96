"""How large a fit may grow: what it costs in time and memory against what it is worth."""

REFERENCE_EDGES = 1200
"""At most so many for a kind of pair."""
REFERENCE_COMPONENTS = 2700
"""At most so many components (2l + 1 for each atom) of the largest degree for a species: the time goes as their square."""
DIVERSE_EDGES, DIVERSE_COMPONENTS = 100, 600
"""The same of many molecules: likeness says less there, and fewer do as well."""
MOST_PAIRS = 20_000
"""Pairs of one kind that are fitted, drawn from all."""
COMPARED = 10**7
"""Edges times references, at most: where there are many edges, references are fewer."""
FEWEST_ATOMS = 30
"""Atoms have no many-body terms of their own where `COMPARED` leaves fewer references."""
KEPT = 5 * 10**7
"""Numbers of kernels in memory beyond which each order is computed when it is needed."""
