"""Bridge beside three things one might use in its place, doing the same work on the same machine in one run.

    make bench-peers                                  all that this machine can run, five rounds
    python -m bench.peers --only bridge,node-red --rounds 1

`README.md` says what the work is. `peers.py`: how each is installed and started; `check.py`: does it do the work; `scene.py`:
the rate; `kill.py`: `kill -9` under load; `judge.py`: what was lost and doubled, seen from outside; `report.py`: the table.
"""
