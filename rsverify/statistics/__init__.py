"""Chance, kept honest: named streams, intervals, designed sample sizes, an anytime-valid boundary, rounding bounds."""
