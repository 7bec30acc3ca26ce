"""Asks generators which rank they are on."""

from __future__ import annotations


def number_of(generator):
    return generator.rank
