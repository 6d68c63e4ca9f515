"""The service asked by the frameworks' own client code, out of their wheels: `make conformance`."""
