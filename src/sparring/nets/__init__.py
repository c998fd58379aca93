"""Blocks that more than one paper uses. Networks take `spec.shape`; none is cloned by resolution."""
