"""Runs a job on a cluster and follows it from here."""
