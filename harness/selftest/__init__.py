"""The self-test: proof that a verdict can be trusted, for whoever has to trust it.

    good        generated histories in which all is well: not one FAIL may come of them
    defects     planted defects in such histories: each must come out by the named check, never as a PASS
    live        the same through real sockets: the load engine and the census against a platform that misbehaves
    builder     writes real run directories, through the real store, from a small model of what happened
    friday      that model of a Friday burst
    aa          pairs of runs in which nothing was changed: how often compare calls that a regression
    crash       the harness struck at every step of a run with faults active; what it left must be brought back
    table       runs them and says what was expected and what was seen
"""
