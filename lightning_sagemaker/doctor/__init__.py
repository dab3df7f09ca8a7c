"""``lightning-sagemaker doctor``: what a process sees of its job, what Lightning does with it, and what is wrong."""
