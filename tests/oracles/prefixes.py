"""What a source says of a text, enumerated over its whole vocabulary, in the words of the definitions.

A source has read `tokens` of `text`, an empty token ends the document, and `rows` are its distributions in front of
each, by the bytes of the next token.
"""

Row = dict[bytes, float]


def prefix_probability(text: bytes, tokens: list[bytes], rows: list[Row], offset: int) -> float:
    """P(the text up to offset): the source's own tokens as far as they reach, then all that begin with the rest.

    len(text) + 1 is the offset behind the end of the document.
    """
    total, at = 1.0, 0
    for token, row in zip(tokens, rows, strict=True):
        width = len(token) or 1
        if at + width > offset:
            rest = text[at:offset]
            return total * sum(prob for x, prob in row.items() if x.startswith(rest)) if rest else total
        total *= row[token]
        at += width
    return total


def conditional(text: bytes, tokens: list[bytes], rows: list[Row], offset: int) -> tuple[Row, float]:
    """What may follow at an offset, without what was read, scaled to the mass retained; and that mass."""
    at = 0
    for token, row in zip(tokens, rows, strict=True):
        if at + (len(token) or 1) > offset:
            read = text[at:offset]
            if not read:
                return row, 1.0
            fitting = {x: prob for x, prob in row.items() if x.startswith(read)}
            retained = sum(fitting.values())
            return {x[len(read) :]: prob / retained for x, prob in fitting.items() if x != read}, retained
        at += len(token) or 1
    return {}, 1.0


def rest(text: bytes, tokens: list[bytes], rows: list[Row], offset: int, end: int) -> Row:
    """What each candidate at an offset has for texts other than text[offset:end], read as the source reads it."""
    follow, _ = conditional(text, tokens, rows, offset)
    before = prefix_probability(text, tokens, rows, offset)
    own = [0]
    for token in tokens:
        own.append(own[-1] + (len(token) or 1))
    # The source's own token that holds the byte at the offset.
    [(begin, token)] = [(b, t) for b, t in zip(own, tokens, strict=False) if b <= offset < b + (len(t) or 1)]
    remaining = token[offset - begin :]
    if end < begin + (len(token) or 1):
        actual = text[offset:end]
        return {x: 0.0 if x.startswith(actual) else prob for x, prob in follow.items()}
    gone_on = prefix_probability(text, tokens, rows, end) / before
    return {x: prob - gone_on if x == remaining else prob for x, prob in follow.items()}
