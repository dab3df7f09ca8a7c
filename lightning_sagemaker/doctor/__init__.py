"""``lightning-sagemaker doctor``: what this process sees of its job, what Lightning will do with it, what is wrong."""
