"""`python -m sconto.simulate`; see `campaign.py`."""

import sys

from sconto.simulate.campaign import main

if __name__ == "__main__":
    sys.exit(main())
