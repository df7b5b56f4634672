"""The vocabulary of stalewatch: operations, outcomes, clocks, and the files that hold them."""
