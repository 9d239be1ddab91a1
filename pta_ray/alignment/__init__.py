"""What a source says, expressed in the target's vocabulary. Pure functions on arrays; no Ray, no torch.

Shapes used in this folder:
    S  tokens of the source's sequence, start token included; its boundaries are their ends
    T  tokens of the target's sequence, likewise
    M  boundaries of the target that predict a token: T - 1
    C  source candidates at a boundary: the actual next token, then the top-k
    Y  target candidates at a boundary: the actual next token, the target's top-k, one per source candidate
    K  entries kept of an aligned distribution: the actual next token, then the k most probable others
"""
