"""Controls that every board shows."""
