"""The same question by many analyses, and what it would take to change the answer."""
