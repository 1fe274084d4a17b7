"""Collectors: they turn a source of news into articles, trusting nothing that a server says."""
