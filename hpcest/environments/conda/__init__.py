"""Conda packages: specifications, solving, locks and linking, on top of py-rattler (the extra ``conda``)."""
