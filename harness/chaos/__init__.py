"""Faults, carried out by chaostoolkit on named targets, with evidence, deadlines and an undo log.

``runner.start`` runs an arm's faults in a process of their own; ``undo.recover`` brings back what a killed process left.
"""
