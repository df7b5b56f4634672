"""Recording: operations get their numbers and times, are judged in the order of their end, and are counted.

The way of one operation: a workload chooses it, a client performs it, the recorder times it and hands it to the judge, and
every subscriber hears of it and of what it violated.
"""
