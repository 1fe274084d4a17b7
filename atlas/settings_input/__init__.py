"""How settings are read and checked: the YAML file, the variables, the kinds of value, the words for problems."""
