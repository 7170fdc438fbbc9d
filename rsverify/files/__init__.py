"""Files: what comes from outside is read within bounds, what goes out is written whole, a folder has one writer."""
