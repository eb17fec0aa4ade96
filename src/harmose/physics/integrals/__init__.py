"""Overlap integrals between localized orbitals, from their radial functions."""
