"""Numbers of a recipe that a short search before the fit finds: what fits into memory, and the learning rate."""

from finders.process import find_numbers
from finders.trial import Trial
from finders.wanted import Wanted

__all__ = ["Trial", "Wanted", "find_numbers"]
