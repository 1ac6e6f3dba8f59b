import sys
from pathlib import Path

# Its modules are programs, not a package.
sys.path.append(str(Path(__file__).parents[2] / "bench"))
