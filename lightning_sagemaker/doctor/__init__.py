"""``lightning-sagemaker doctor``: what this process sees of its job, what Lightning does with it, what is wrong."""
