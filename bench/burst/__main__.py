"""`python -m bench.burst`"""

import sys

from bench.burst.run import main

sys.exit(main())
