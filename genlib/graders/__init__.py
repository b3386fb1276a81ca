"""The graders behind the exercises, one module a lesson. `genlib.checks.grade` finds them by themselves."""
