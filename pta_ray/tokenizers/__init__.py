"""Tokenizers as bytes: which exact bytes each token id stands for, and text to ids and byte boundaries."""
