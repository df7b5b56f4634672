"""Recording: operations get their versions and times, are judged in the order of their end, and are counted.

The path of one operation: a workload chooses it, a client performs it, the recorder times it and passes it to the
judge, and every subscriber receives it with its violations.
"""
