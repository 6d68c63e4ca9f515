"""One small file for each RL framework: what its trainer calls, and what a failure is there.

Set GRM_URL, and GRM_KEY where the service wants one; or make a function of your own with each file's factory.
"""
