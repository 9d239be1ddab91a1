"""What a job will need and how long it will take, from model configurations alone. Nothing here imports torch."""
