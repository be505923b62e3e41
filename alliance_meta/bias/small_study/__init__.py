"""Small-study effects: tests of asymmetry, and means that follow the large studies."""
