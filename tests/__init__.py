"""The tests of jaxopt_layers."""
