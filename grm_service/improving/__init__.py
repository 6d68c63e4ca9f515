"""Better answers and preference pairs: drafts of a policy, judged. It owns no method of its own."""
