"""What a run showed: plain lines, tables, JSON and a page."""
