"""The one-machine network and its story. A production deployment imports none of it."""
