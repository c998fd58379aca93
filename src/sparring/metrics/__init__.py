"""Verdicts and the numbers that judge them: calibration, detection, pixels, likelihood."""
