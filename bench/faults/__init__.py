"""Killing the real engine, and judging what the outside saw of it.

    python -m bench.faults.run --store sqlite --random 50 --seed 7
    python -m bench.faults.checker FOLDER

`load.py` is the hospital and its patients: it saves, pushes, taps and types, tries again what was not acknowledged, and
notes every acknowledgement. `run.py` kills (SIGKILL) at named points and at random, restarts, waits until it is quiet.
`history.py` reads what was witnessed; `checker.py` judges it and reads nothing of the engine's.
"""
