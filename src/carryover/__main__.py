"""``python -m carryover``: the form that the stages of ``dvc.yaml`` call."""

from carryover.cli import main

main()
