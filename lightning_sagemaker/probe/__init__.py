"""One short job that asks real instances what this package assumes of them without having seen it, and its report."""
