"""Better answers and preference pairs: a policy writes drafts, the judge compares them."""
