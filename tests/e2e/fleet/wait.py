"""Waiting for a condition; the only place where tests sleep."""

import os
import time

# Bounds are for a release build; a sanitizer build gets more (tools/test sets this).
PATIENCE = float(os.environ.get("MQFLEET_TEST_PATIENCE", "1"))


def wait_until(condition, bound_s, what="condition", poll_s=0.05):
    """Calls `condition` until it returns a true value, and returns that value. An AssertionError
    inside counts as not yet, and so does asking for what is not there yet (a field of a last_error
    that is None, say); the last one explains the failure."""
    deadline = time.monotonic() + bound_s * PATIENCE
    while True:
        fault = None
        try:
            value = condition()
            if value:
                return value
        except (AssertionError, LookupError, TypeError) as error:
            fault = error
        if time.monotonic() > deadline:
            detail = f": {fault}" if fault else ""
            raise AssertionError(f"{what}: not within {bound_s * PATIENCE:g} s{detail}")
        time.sleep(poll_s)


def holds_for(condition, duration_s, what="condition", poll_s=0.05):
    """Fails as soon as `condition` is false within `duration_s`."""
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        assert condition(), f"{what}: no longer true"
        time.sleep(poll_s)
