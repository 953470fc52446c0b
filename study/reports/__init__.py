"""Commands that show a study: status, Pareto front, figures, report page, comparison."""
