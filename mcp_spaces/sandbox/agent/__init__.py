"""What runs inside a sandbox, as process 1: nothing here is imported by the daemon but `wire`, and the rule by which both
order paths (`is_others_work`).

The daemon sends these modules over the container's stdin when it starts (`bundle` in `delivery.py`), so that any image
with Python 3.8 or newer works and both ends always have the same version. Therefore: standard library only, and of it
only modules that a minimal Python has; whatever is rarer is imported where it is used. `_signal`, `_socket` and
`_collections` stand for `signal`, `socket` and `collections`, whose imports cost milliseconds of every launch.
"""
