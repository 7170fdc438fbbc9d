"""The figures of `reproduce`, one file each: a file with a `FIGURE` is found by itself."""
