"""How any operation runs. Knows no noun."""
