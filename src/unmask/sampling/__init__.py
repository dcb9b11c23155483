"""The reverse side: from a blank canvas to tokens."""
