"""Chance, kept honest: named streams, intervals, designed sample sizes, stopping rules, rounding bounds."""
