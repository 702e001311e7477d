"""The report: the paper's figures and tables drawn from run folders, without torch."""
