"""One module for each version. None imports the tables of today: they will have moved on."""
