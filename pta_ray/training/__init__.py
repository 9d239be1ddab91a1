"""The target learns: sparse loss, DeepSpeed workers under Ray Train, export."""
