"""What runs in every process of a launch: ``python -m benchmarks.workers PLANNED_AS_JSON SAMPLES_FILE``.

A worker is a module with ``measure(settings)``, which returns for each case of this rank its name, the seconds of its
steps and other numbers; and ``combine(settings, steps, numbers)``, from those of all ranks to the launch's numbers.
"""
