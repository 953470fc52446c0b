"""Objectives, constraints, non-dominated sets, hypervolume, knee and nearest member, growth."""
