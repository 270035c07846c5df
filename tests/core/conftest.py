"""Strategies importable by the tests here (import mode importlib adds no path), and Hypothesis for a busy machine."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# Time says nothing on a machine that also runs databases; what must be fast is tested as a count or with a wide bound.
settings.register_profile("paritree", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paritree")
