"""``python -m lightning_sagemaker``: the command."""

import sys

from lightning_sagemaker.cli import main

if __name__ == "__main__":
    sys.exit(main())
