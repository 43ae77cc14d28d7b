"""What the README says of commands is what they say themselves."""

import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_help_texts_are_current() -> None:
    check = [sys.executable, "-m", "cogapp", "--check", str(README)]
    result = subprocess.run(check, check=False, capture_output=True, text=True)
    assert result.returncode == 0, f"run: make docs\n{result.stdout}"
