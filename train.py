"""Train, evaluate and use a model: `python train.py fit --config configs/seg_unet.yaml`."""

import sys

from cli import main

if __name__ == "__main__":
    sys.exit(main())
