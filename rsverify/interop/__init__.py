"""Speaks to other libraries' models and settings; nothing else in the package imports those libraries."""
