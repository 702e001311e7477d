"""From bytes to pixels to batches to codes."""
