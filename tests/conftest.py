"""Settings for all tests."""

import hypothesis

# The same examples each time, so that a run says something of the change and not of the dice; the fuzzers go on looking
# for new ones. A shared or instrumented machine may take its time over an example; what hangs is stopped by pytest's
# own timeout.
hypothesis.settings.register_profile("patient", deadline=None, derandomize=True)
hypothesis.settings.load_profile("patient")
