"""The page of ``alliance-meta explore``: what it asks, what it is told, and who serves it."""
