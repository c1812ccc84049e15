"""Mutation testing of what decides: judge, checks, guards, undo. ``make mutation``, or

    python -m tests.mutation [--sample 120] [--seed 1] [--cpu-minutes 12] [--area guards] [--keep build/mutation] [--list]

A mutant is one change in the syntax tree or in a piece of SQL; it is killed when a test fails of those that come to the changed statement
(``plan.py`` names the files, ``lines.py`` measures which test comes where). Each mutant is tried in a fork of a process that has loaded and
collected everything; there the module's functions get other code (``inplace.py``), so no file of the tree changes. Before that the tests
must pass as they are, and once more with every module swapped for itself. ``equivalent.py`` lists mutants that change no promise.
Printed, for each area: killed of tried with a 95 % interval, and the survivors, which are gaps in the tests or belong into that list.
``--keep`` goes on with what was tried before: killed mutants are not tried again while their module is the same, survivors while the tests are.
Limits: one change at a time; of the tests of ``plan.py`` only, none longer than 3 s, and of a mutant's tests the first 10 s: who survives that
counts as a survivor. A test that only reads a constant runs no line of its module and is not chosen. Kept kills are not tried again when a
test is taken away.
"""
