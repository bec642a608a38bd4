"""Plans: what exactly will run."""
