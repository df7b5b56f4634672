"""One guarantee, one file; the judge feeds them. Pure: no input, no output, no clock."""
