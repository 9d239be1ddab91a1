"""How good a model is: bits per byte, the only figure that compares across tokenizers."""
