"""Text as token ids, and the files that it comes from."""
