"""Training: recipes, one loop, many objectives."""
