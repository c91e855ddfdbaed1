"""Settings for all tests."""

import hypothesis

# A shared or instrumented machine may take its time over an example; what hangs is stopped by pytest's own timeout.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
