"""Functions in processes that can be killed for real."""
