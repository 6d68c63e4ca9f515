"""The frameworks' own client code, loaded from their wheels, against the service: `make conformance`."""
