"""What the tests share: problems, oracles and tolerances."""
