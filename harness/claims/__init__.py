"""One module for every claim: what several arms together say of it, as a pure ``find(arms, plan)``."""
