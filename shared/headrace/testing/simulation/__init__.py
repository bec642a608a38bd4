"""Simulation: whole installations under one seeded scheduler, in virtual time, while everything breaks."""
