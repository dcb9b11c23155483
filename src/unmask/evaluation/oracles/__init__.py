"""Exact denoisers of distributions that are small or simple enough."""
