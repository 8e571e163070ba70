"""Submissions that are dishonest by one thing each, in thousands: `make fuzz`."""
