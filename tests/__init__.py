"""Nothing here wants what sqlite-utils imports if it is there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("not_for_us")))
