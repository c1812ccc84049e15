"""Coverage-guided fuzzing (atheris, which is libFuzzer) of whatever reads octets that others wrote.

``python -m tests.fuzz TARGET [-max_total_time=600] [-seed=1] [CORPUS]`` runs one target of ``targets.py`` by hand; a crash leaves its input
in the working directory. ``corpus/TARGET`` holds the inputs that each reached something new; they are played without atheris in the
quick tests, and a run of a minute over all targets starts from them (``test_fuzz.py``).
"""
