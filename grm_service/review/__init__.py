"""Human oversight: which verdicts need a person, and what people say of them."""
