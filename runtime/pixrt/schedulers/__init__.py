"""The solvers as coefficient tables."""
