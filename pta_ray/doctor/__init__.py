"""Is this machine, or a cluster, able to run a job, and what is missing?"""
