"""The method of the paper: balanced orders, prompt, parsing, sampling, voting, early stopping."""
