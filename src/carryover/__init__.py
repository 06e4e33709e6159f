"""carryover: what does a pretrained vision representation carry over to the next task?"""

__version__ = "0.1.0"
