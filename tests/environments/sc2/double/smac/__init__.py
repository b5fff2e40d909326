"""This package stands in for the package `smac`, which need not be installed for the tests; see `env`."""
