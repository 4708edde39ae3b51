"""Disciplined convex and parametrized programming on the jaxpr."""
