"""What turns prompts into completions, behind one protocol."""
