"""The rooms that run functions."""
