"""`check`: finding what is wrong with a data set."""

from inspection.finding import Example, Finding
from inspection.inspect import Inspection, inspect_data
from inspection.report import print_table, write_report

__all__ = ["Example", "Finding", "Inspection", "inspect_data", "print_table", "write_report"]
