"""From a plan and a target to a sealed run directory; conductor.py reads like the README."""
