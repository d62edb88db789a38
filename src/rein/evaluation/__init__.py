"""Measuring a model: whether it draws what it is asked for, how well it keeps pictures, whether it copies."""
