"""Networks of other libraries as denoisers."""
