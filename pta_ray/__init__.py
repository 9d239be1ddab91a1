"""Fuse several language models with different tokenizers into one, as one elastic stream on Ray."""
