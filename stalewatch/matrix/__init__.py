"""The matrix: what documentation promises at each combination of levels, beside what was measured there."""
