"""Which candidate the target learns from: its own starting distribution, or one of the aligned ones."""
