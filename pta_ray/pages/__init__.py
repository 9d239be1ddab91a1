"""HTML pages that need nothing else, and what all of them share."""
