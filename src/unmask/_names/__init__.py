"""Names: those that packages re-export on first use, and those of an earlier version."""
