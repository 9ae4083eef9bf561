"""Many edits side by side: scenes or pictures × prompts × methods, in one queue and one table."""
