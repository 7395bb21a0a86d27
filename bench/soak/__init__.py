"""Hours of hostile load with a random fault every few minutes, unattended; a table with goal and reached at the end.

python -m bench.soak --hours 2 --rate 50 --fault-every 300 --store postgresql --seed 6 --out FOLDER
"""
