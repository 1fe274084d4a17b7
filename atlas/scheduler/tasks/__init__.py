"""An unfinished task on its way from its submission to its end."""
