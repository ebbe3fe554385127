"""Pages: what they show, when they rest, and what goes wrong in them."""
