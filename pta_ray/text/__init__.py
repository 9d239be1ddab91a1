"""Text: where documents lie, how they are read in parallel, and how they are cut into windows."""
