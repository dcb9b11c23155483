"""Pictures of a canvas: terminal, GIF, HTML page, curves."""
