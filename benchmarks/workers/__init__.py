"""What runs in every process of a launch: ``python -m benchmarks.workers.NAME PLANNED_AS_JSON SAMPLES_FILE``."""
