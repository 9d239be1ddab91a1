"""What a run was and what came of it, on one HTML page."""
