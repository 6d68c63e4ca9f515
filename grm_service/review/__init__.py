"""Human review of verdicts: reasons to review, reviews, and agreement between people and the judge."""
