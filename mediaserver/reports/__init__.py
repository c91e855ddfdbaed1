"""What a session was like: what is gathered while it runs, the report, and its page."""
