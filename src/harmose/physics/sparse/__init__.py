"""Large cells: the energies and the density of states of sparse H(k) and S(k), without all eigenvalues."""
